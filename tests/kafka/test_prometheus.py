"""A real Prometheus scrapes workers that are killed, added and paused: what it reads over all is right or absent.

A series is on one page at a time, but Prometheus keeps a sample until the next scrape of the same worker. When a
partition moves between two workers that live, both samples stand for less than one interval of scraping: so what is
read over all workers is `max by`, which is right then too, and not `sum by`.
"""

from __future__ import annotations

import json
import math
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from broker import Broker, free_port
from engine import done, event, until
from fleet import SESSION_SECONDS, Worker
from grafana import Viewer, boards, questions
from scraping import Prometheus, prometheus

from flowmetrics.engine_metrics import ON_KAFKA

BOARDS: Final = Path(__file__).parents[2] / "deploy" / "grafana"
SECONDS: Final = 180.0
SCRAPE_SECONDS: Final = 1.0
STREAMS: Final = 12
CONSTANT: Final = "flowmetrics_(flow_velocity_items|flow_distribution_ratio|flow_load_items|active_users)"
"""What does not change with time alone."""
TOGETHER: Final = f'max by (__name__, value_stream, item_type, window, state) ({{__name__=~"{CONSTANT}"}})'


@contextmanager
def workers(folder: Path, broker: str, prefix: str, size: int) -> Iterator[list[Worker]]:
    """Workers that keep their addresses, not started."""
    with ExitStack() as held:
        made = []
        for number in range(size):
            settings = f"windows: [1d]\ntopics: {{prefix: {prefix}, partitions: 4}}\n"
            made.append(held.enter_context(Worker(folder / f"worker-{number}", broker, settings)))
            made[-1].configure(settings, f"127.0.0.1:{free_port()}")
        yield made


def address(worker: Worker) -> str:
    """Where it listens, also before it was started."""
    return worker.config.read_text().partition('listen: "')[2].partition('"')[0]


def tell(worker: Worker) -> None:
    """What each value stream is to show, and each something else."""
    for stream in range(STREAMS):
        name = f"stream-{stream}"
        worker.post(
            *(done(f"{name}-{n}", name) for n in range(10 + stream)),
            *(event("item", item=f"{name}-w{n}", value_stream=name, state="Doing") for n in range(3 + stream)),
            *(event("activity", customer=f"{name}-{n}", value_stream=name) for n in range(5 + stream)),
        )


def showing(several: list[Worker]) -> Worker:
    """One that shows value streams that were told of; which do is settled by their names, and may change just now."""

    def found() -> Worker | None:
        return next((worker for worker in several if any("stream-" in name for name in worker.series())), None)

    worker = until(found, "one of these workers shows something", SECONDS)
    assert worker is not None
    return worker


def over_time(scraper: Prometheus, expression: str, begin: float, end: float) -> dict[str, list[tuple[float, float]]]:
    """(time, value) of each series of an expression at every second, by its labels."""
    return _matrix(scraper.ask("query_range", query=expression, start=begin, end=end, step=1))


def scraped(scraper: Prometheus, begin: float, end: float) -> dict[str, list[tuple[float, float]]]:
    """(time, value) of each sample as it was scraped, by the labels of its series, the worker among them."""
    seconds = math.ceil(end - begin)
    return _matrix(scraper.ask("query", query=f'{{__name__=~"{CONSTANT}"}}[{seconds}s]', time=end))


def _matrix(told: Any) -> dict[str, list[tuple[float, float]]]:
    return {
        json.dumps(one["metric"], sort_keys=True): [(float(at), float(value)) for at, value in one["values"]]
        for one in told["result"]
    }


def on_two_pages(samples: Mapping[str, list[tuple[float, float]]]) -> list[str]:
    """The series that one worker showed between two successive scrapes of another that showed it too."""
    shows: dict[str, list[tuple[float, str]]] = {}
    for labels, values in samples.items():
        metric = json.loads(labels)
        worker = metric.pop("instance")
        shows.setdefault(json.dumps(metric, sort_keys=True), []).extend((at, worker) for at, _ in values)
    return [
        f"{name}: {before} {here} {after}"
        for name, scrapes in shows.items()
        for before, here, after in zip(sorted(scrapes), sorted(scrapes)[1:], sorted(scrapes)[2:], strict=False)
        if before[1] == after[1] != here[1] and after[0] - before[0] < 1.5 * SCRAPE_SECONDS
    ]


def silent(scraper: Prometheus) -> list[str]:
    """The questions about workers on Kafka, on the board of the engine as it is committed, that do not answer."""
    (board,) = (board for board in boards(BOARDS) if board["uid"] == "flowmetrics-engine")
    viewer = Viewer(board, scraper)
    asked = [q for q in questions(board) if any(metric.name in q.expression for metric in ON_KAFKA)]
    assert len(asked) == len(ON_KAFKA)
    return [question.where for question in asked if not viewer.answers(question, {})]


@pytest.mark.long
def test_what_prometheus_reads_over_workers_is_right_or_absent_while_they_come_and_go(
    tmp_path: Path, broker: Broker, prefix: str
) -> None:
    with workers(tmp_path, broker.address, prefix, 4) as fleet:
        *several, late = fleet
        for worker in several:
            worker.spawn()
            worker.listening()
        for worker in several:
            until(lambda worker=worker: worker.get("/readyz").status == 200, "a worker is ready", SECONDS)
        tell(several[0])
        with prometheus(tmp_path / "prometheus", *map(address, fleet)) as scraper:
            velocities = 'sum(flowmetrics_flow_velocity_items{window="1d",item_type="all",value_stream=~"stream-.*"})'
            all_done = sum(10 + stream for stream in range(STREAMS))
            until(lambda: scraper.one(velocities) == all_done, "everything is shown", SECONDS)
            truth, begun = scraper.query(TOGETHER), time.time()

            def whole() -> bool:
                return scraper.query(TOGETHER) == truth

            killed = showing(several)
            killed.kill()
            until(lambda: not whole(), "the killed worker's series are gone", SECONDS)
            until(whole, "others show them", SECONDS)
            late.spawn()
            late.listening()
            until(lambda: late.get("/readyz").status == 200, "the new worker has a share", SECONDS)
            until(whole, "all is shown", SECONDS)
            paused = showing([worker for worker in several if worker.runs])
            paused.signal(signal.SIGSTOP)
            try:
                until(lambda: not whole(), "the paused worker's series are gone", SECONDS)
                until(whole, "others show them", SECONDS)
                time.sleep(SESSION_SECONDS)
            finally:
                paused.signal(signal.SIGCONT)
            until(lambda: paused.get("/readyz").status == 200, "the paused worker is back", SECONDS)
            killed.start()
            for worker in fleet:
                until(lambda worker=worker: worker.get("/readyz").status == 200, "each has a share", SECONDS)
            until(whole, "all is shown", SECONDS)
            until(lambda: not silent(scraper), "each question of the board of the engine about Kafka answers", SECONDS)
            ended = time.time()
            samples = scraped(scraper, begun, ended)
            shown = over_time(scraper, TOGETHER, begun, ended)
    assert not on_two_pages(samples)
    assert shown.keys() == truth.keys()
    wrong = {
        name: [(round(at - begun), value) for at, value in values if value != pytest.approx(truth[name])]
        for name, values in shown.items()
    }
    wrong = {name: values for name, values in wrong.items() if values}
    assert not wrong, f"{len(wrong)} of {len(shown)} series were wrong at some time, such as {[*wrong.items()][:5]}"
