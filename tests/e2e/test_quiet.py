"""Nobody is paged while nothing slumps, whatever happens to the processes: on one machine, and on Kafka."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import shop
from broker import Broker, can_run
from engine import EngineProcess, until
from fleet import SESSION_SECONDS, fleet
from stage import NAIVE, SETTINGS, Stage, during, stage, tell

from agents.published import clock_us
from flowmetrics.instants import HOUR_US

pytestmark = pytest.mark.long

FAR_US = 12 * HOUR_US
"""The sale is half a day away, so that the count of active users stands still."""
QUIET_SECONDS = 20
"""So long must all be quiet after the last fault: three times as long as an alert of a KPI must last."""
GAP_SECONDS = 8


def nobody_was_notified(here: Stage) -> None:
    told = [(one["receiver"], alert["labels"]["alertname"]) for one in here.told for alert in one["alerts"]]
    assert [pair for pair in told if pair[0] != "dead-mans-switch" and pair[1] != NAIVE] == []


def somebody_would_have_been(here: Stage) -> None:
    """A naive alert paged, so faults were seen and pages arrive; and what ours read is there again."""
    until(lambda: NAIVE in here.names("pager", "firing"), "the naive alert pages")
    for query in (
        f'flowmetrics:kpi:trusted{{value_stream="{shop.STREAM}"}}',
        f'flowmetrics:kpi:band_high{{kpi="flow_time",value_stream="{shop.STREAM}"}}',
        f'flowmetrics:kpi:band_low{{kpi="active_users",value_stream="{shop.STREAM}"}}',
    ):
        until(lambda query=query: here.ask(query), f"{query} is there again", 30)  # type: ignore[misc]


def live(engine: EngineProcess, here: Stage, seconds: float) -> None:
    """Go on as usual for a while."""
    for _ in during(seconds):
        engine.post(*shop.heartbeat(clock_us()))
        nobody_was_notified(here)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """A Kafka of one broker."""
    if not can_run():
        pytest.skip("left out: a broker needs java and mvn")
    running = Broker(tmp_path / "broker")
    running.start()
    yield running
    running.stop()


def test_kills_restarts_gaps_and_new_names_page_nobody(tmp_path: Path, history: Path) -> None:
    now = clock_us()
    with EngineProcess(tmp_path / "engine", SETTINGS) as engine:
        tell(engine.ready(), shop.past(now, now + FAR_US))
        with stage(tmp_path, history, [engine]) as here:
            live(engine, here, 5)
            for number in range(3):  # SIGKILL; each start has another port, as a pod has another address
                engine.kill()
                time.sleep(1)
                engine.ready()
                here.watch.aim([engine.url.removeprefix("http://")], pod=f"engine-{number}")
                live(engine, here, 5)
            engine.stop()
            engine.ready()
            here.watch.aim([engine.url.removeprefix("http://")])
            live(engine, here, 5)
            here.watch.prometheus.kill()
            here.watch.prometheus.start()
            live(engine, here, 5)
            here.watch.aim(["127.0.0.1:1"])  # where nobody answers
            live(engine, here, GAP_SECONDS)
            here.watch.aim([engine.url.removeprefix("http://")])
            live(engine, here, QUIET_SECONDS)
            somebody_would_have_been(here)
            nobody_was_notified(here)


def test_rebalances_and_killed_workers_on_kafka_page_nobody(tmp_path: Path, history: Path, broker: Broker) -> None:
    now = clock_us()
    with fleet(tmp_path, broker.address, f"topics: {{partitions: 3}}\n{SETTINGS}", 3) as workers:
        tell(workers.workers[0], shop.past(now, now + FAR_US))
        shown = 'count(flowmetrics:kpi:trusted{kpi="flow_time"})'
        with stage(tmp_path, history, workers.workers) as here:
            until(lambda: here.ask(shown), "the workers have counted everything", 60)
            live(workers.workers[0], here, 5)
            workers.workers[1].kill()  # its partitions go to the others once its session is over
            live(workers.workers[0], here, SESSION_SECONDS + GAP_SECONDS)
            another = workers.add()  # and come back: a rebalance
            here.watch.aim([worker.url.removeprefix("http://") for worker in workers.workers if worker.runs])
            live(workers.workers[0], here, GAP_SECONDS)
            workers.ready()  # or the new one answers that it has not reached Kafka
            workers.workers[0].stop()
            live(another, here, QUIET_SECONDS)
            somebody_would_have_been(here)
            nobody_was_notified(here)
