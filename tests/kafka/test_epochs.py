"""A change of the configuration on a real broker: old numbers stay and move until the new ones are complete."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest
from broker import Broker
from engine import Event, Metrics, done, event, until
from fleet import Worker

pytestmark = pytest.mark.long

Make = Callable[..., Worker]
COUNT = 20_000
HANDED_OVER = 300
"""Items whose last state is a word that only the new configuration knows."""
DOING = 200
"""Items that the KPI counts which only the new configuration has."""


@pytest.fixture
def make(tmp_path: Path, broker: Broker) -> Iterator[Make]:
    """Workers in directories of their own, not started."""
    with ExitStack() as held:
        made: list[Worker] = []

        def one(settings: str) -> Worker:
            made.append(Worker(tmp_path / f"worker-{len(made)}", broker.address, settings))
            return held.enter_context(made[-1])

        yield one


@pytest.fixture
def old(prefix: str) -> str:
    """The settings before the change."""
    return f"topics: {{prefix: {prefix}, partitions: 3}}\nwindows: [1d, 7d]\nkpis: [flow_velocity, active_users]\n"


@pytest.fixture
def new(prefix: str) -> str:
    """The settings after it: another window, a KPI more, and a mapping that knows more words."""
    return f"""\
topics: {{prefix: {prefix}, partitions: 3}}
windows: [1d, 7d, 14d]
kpis: [flow_velocity, active_users, flow_load]
value_streams: {{"*": {{states: {{active: [Doing], done: [Done, Handed over]}}}}}}
"""


def one_partition(settings: str) -> str:
    return settings.replace("partitions: 3", "partitions: 1")


def past() -> Iterator[list[Event]]:
    """What is told before the change, in portions."""
    for start in range(0, COUNT, 5000):
        yield [done(f"A-{n}") for n in range(start, start + 5000)]
    yield [event("item", item=f"H-{n}", value_stream="shop", state="Handed over") for n in range(HANDED_OVER)]
    yield [event("item", item=f"D-{n}", value_stream="shop", state="Doing") for n in range(DOING)]


def doing(page: Metrics) -> float | None:
    """What the KPI shows that only the new configuration has."""
    return page.load("active", item_type="unmapped")


def test_a_new_configuration_of_one_worker_is_built_by_all_and_shown_when_it_is_complete(
    make: Make, old: str, new: str
) -> None:
    first, second = make(old).ready(), make(old).ready()
    for portion in past():
        first.post(*portion)
    linked = [
        event("customer", customer="ann", aliases=["bob"], ago=300),
        event("activity", customer="bob", value_stream="shop", ago=200),
        event("activity", customer="ann", value_stream="shop", ago=100),
    ]
    first.post(*linked)

    def shown(window: str) -> float:
        return sum(worker.metrics().velocity(window=window) or 0.0 for worker in (first, second) if worker.runs)

    until(lambda: shown("7d") == COUNT, "all is counted before the change", 60)
    second.stop()
    second.configure(new)
    second.start()
    first.post(*(done(f"B-{n}") for n in range(500)))
    until(lambda: shown("14d") == COUNT + 500 + HANDED_OVER, "the new window is complete", 90)
    first.post(*(done(f"C-{n}") for n in range(500)))
    for window in ("1d", "7d", "14d"):
        until(lambda window=window: shown(window) == COUNT + 1000 + HANDED_OVER, f"{window} goes on", 60)
    assert sum(doing(worker.metrics()) or 0.0 for worker in (first, second)) == DOING
    people = [worker.metrics().users(window="14d") or 0.0 for worker in (first, second)]
    assert sum(people) == 1.0
    both = (first, second)  # a partition without any of these items shows the new epoch a moment later
    until(lambda: {worker.metrics()("engine_epoch") for worker in both} == {2.0}, "all of both workers is new", 60)
    first.stop()
    second.stop()
    assert "agree" in second.run("audit").well().err


def test_old_numbers_are_current_until_the_new_ones_are_shown_and_a_kill_only_delays_them(
    make: Make, old: str, new: str
) -> None:
    """One partition, so that the build takes a while: it is swept slice by slice, between batches. With a long session
    a busy machine does not hide what is shown; nobody waits for the end of it."""
    worker = make(one_partition(old))
    worker.session_seconds = 60
    worker.configure(one_partition(old))
    worker.ready()
    for portion in past():
        worker.post(*portion)
    worker.shows(lambda page: page.velocity(window="7d"), COUNT, seconds=60)
    worker.kill()
    worker.configure(one_partition(new))
    worker.start()
    until(lambda: 0 < (worker.metrics()("engine_epoch_progress_ratio") or 0) < 1, "the new epoch is being built", 60)
    worker.kill()
    worker.start()
    until(lambda: worker.metrics().velocity(window="7d"), "what was shown before the kill is shown again", 60)
    sent, shown, followed = COUNT, float(COUNT), 0

    def look(sent: int) -> str:
        """Look once: "new" where the new numbers are shown, and all of them; "old" where the former one has counted all
        that was sent. One of both is there at every look."""
        nonlocal shown
        page = worker.metrics()
        is_new = page.velocity(window="14d") is not None
        assert doing(page) == (DOING if is_new else None)
        now = page.velocity(window="7d")
        assert now is not None
        now -= HANDED_OVER if is_new else 0
        assert shown <= now <= sent
        shown = now
        return "new" if is_new else "old" if now == sent else ""

    while until(partial(look, sent), f"the old number is {sent}, or the new one is shown", 60) == "old":
        followed += 1
        worker.post(done(f"B-{sent}"))
        sent += 1
    assert followed > 1, "the old number followed what was sent while the new one was built"
    worker.shows(lambda page: page.velocity(window="14d"), sent + HANDED_OVER, seconds=60)
    worker.stop()
    assert "agree" in worker.run("audit").well().err


def test_a_configuration_that_was_replaced_is_refused_until_it_is_adopted_again(make: Make, old: str, new: str) -> None:
    worker = make(old).ready()
    worker.post(done("A-1"))
    worker.shows(lambda page: page.velocity(), 1)
    worker.stop()
    worker.configure(new)
    worker.start()
    worker.shows(lambda page: page("engine_epoch"), 2.0, seconds=60)
    other = make(old)
    other.spawn()
    assert other.ended(30) == 1
    assert "was replaced by a later one" in other.said
    other.run("adopt").well()
    worker.shows(lambda page: page("engine_epoch"), 3.0, seconds=60)
    page = worker.shows(lambda page: page.velocity(window="7d"), 1)
    assert page.velocity(window="14d") is None
    worker.stop()


def test_a_configuration_that_shapes_what_is_stored_is_refused(make: Make, prefix: str, old: str) -> None:
    worker = make(old).ready()
    worker.stop()
    worker.configure(old + "horizon: 500d\n")
    worker.spawn()
    assert worker.ended(30) == 1
    assert f"the topics {prefix}.* were written under a horizon, grain or survey scale that differs" in worker.said
