"""What is right: the published figures against an engine in memory that never died and against brute force; the log
against what was acknowledged. The judge sees the events, the configuration and the instant, and nothing of the process.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from random import Random
from typing import Final, TypeAlias

import msgspec
from oracle import PERSONAL, World, oracle
from workload import Body

from agents.local.journal import Journal
from agents.local.runner import Runner
from flowmetrics.configuration import Configuration
from flowmetrics.families import Family
from flowmetrics.instants import DAY_US
from flowmetrics.testing import Driver, sample_text

Values: TypeAlias = dict[str, float]

SHOWN_MAX: Final = 3
"""Differences told in one message."""

TIGHT_MAX: Final = 10
"""Under so few labels some may overflow, and which ones do may depend on the order of arrival."""

_TOTAL: Final = re.compile(
    r'flowmetrics_(flow_time|flow_velocity|flow_efficiency|items_reopened|requests?_\w+){.*(item_type|channel)="all"'
)
"""What must be right even where labels overflow: totals of measures with one label that do not count people."""


class Wrong(Exception):  # noqa: N818 - a verdict
    """The engine broke a law, in words."""


def values_of(families: Iterable[Family]) -> Values:
    """Families as a flat mapping."""
    return {sample_text(family.name, sample): sample.value for family in families for sample in family.samples}


def check_figures(
    families: Iterable[Family],
    known: Sequence[Body],
    now: int,
    configuration: Configuration,
    rng: Random,
    brute_force: bool,
) -> Values:
    """Hold what is published against both judges; returns what is published."""
    got = values_of(families)
    driver = driven(known, now, configuration, rng)
    truth = oracle([body.event for body in known], now, configuration) if brute_force else got
    keep = _TOTAL.match if configuration.labels_max <= TIGHT_MAX else _always
    wrong = {name for name in got.keys() | driver.keys() if got.get(name) != driver.get(name) and keep(name)}
    wrong |= {
        name
        for name in (got.keys() | truth.keys())
        if not name.startswith("flowmetrics_kpi_") and not near(name, got, truth, configuration) and keep(name)
    }
    if wrong:
        raise Wrong(_told(wrong, got, driver, truth))
    return got


def driven(known: Sequence[Body], now: int, configuration: Configuration, rng: Random) -> Values:
    """What the engine in memory says of the events, in another order and in other batches."""
    driver = Driver(configuration, now)
    lines = [body.line for body in known]
    rng.shuffle(lines)
    size = rng.choice((1, 7, 1000))
    for start in range(0, len(lines), size):
        driver.deliver(lines[start : start + size])
    driver.advance(now)
    if driver.rejected:
        raise Wrong(f"accepted by the intake, refused by the driver: {driver.rejected[0].detail}")
    return driver.values()


def near(name: str, got: Mapping[str, float], truth: Mapping[str, float], configuration: Configuration) -> bool:
    """Percentiles within 1 %, ages within 1 % or one pane, all else exactly, up to the last digits of a ratio."""
    if name not in got or name not in truth:
        return False
    off, want = abs(got[name] - truth[name]), abs(truth[name])
    if name.startswith("flowmetrics_item_age_seconds"):
        return off <= max(0.01 * want, configuration.resolution_us / 1e6)
    if "percentile=" in name:
        return off <= 0.01 * want + 1e-9
    return off <= 1e-9 * max(1.0, want)


def check_books(runner: Runner) -> None:
    """Facts, what was emitted and panes agree."""
    for difference in runner.audit():
        raise Wrong(f"audit: {difference.place}: called for {difference.called_for}, found {difference.found}")


class Erasures:
    """Who is erased up to when, by brute force over every event that is known at an instant."""

    def __init__(self, written: Sequence[tuple[Body, int]], now: int, configuration: Configuration) -> None:
        self._erasures = World([body.event for body, _ in written], now, configuration).erasures

    def cover(self, body: Body) -> bool:
        """Whether an accepted event must go from the log."""
        kind = body.event["type"].split(".")[1]
        return kind in PERSONAL and any(
            body.event["data"]["respondent" if kind == "response" else "customer"] in group
            and (body.at <= at or (kind == "activity" and body.at // DAY_US == at // DAY_US))
            for group, at in self._erasures
        )

    def may_cover(self, refused: bytes) -> bool:
        """Whether a refused event may go."""
        try:
            told = msgspec.json.decode(refused)
        except msgspec.DecodeError:
            return False
        data = told["data"] if isinstance(told, dict) else {}
        named = {data.get("customer"), data.get("respondent"), *data.get("aliases", ())}
        return any(named & group for group, _ in self._erasures)


def check_log(journal: Journal, written: Sequence[tuple[Body, int]], erasures: Callable[[], Erasures]) -> int:
    """The log is what was acknowledged, in order, each once for each time; what was trimmed is its beginning, and in
    place of an event of an erased person there may be nothing. Returns for how many there is nothing."""
    held = [(line, at) for at, lines in journal.read(journal.first(), journal.end + 1) for line in lines]
    kept = written[journal.first() :]
    gone = [body for (line, _), (body, _) in zip(held, kept, strict=False) if not line]
    told = [(line and one_line(body.line), at) for (line, _), (body, at) in zip(held, kept, strict=False)]
    if journal.end != len(written) or len(held) != len(kept) or held != told:
        raise Wrong(
            f"the log holds {journal.first()} to {journal.end}, {len(held)} events; {len(written)} were acknowledged"
        )
    if gone and not all(map(erasures().cover, gone)):
        raise Wrong("an event is gone from the log whose person was not erased")
    return len(gone)


def check_erased(journal: Journal, written: Sequence[tuple[Body, int]], erasures: Erasures) -> None:
    """Nothing is left in the log of those of whom the engine knows that they are erased."""
    known = {key for key, _, _ in journal.erased()}
    held = [line for _, lines in journal.read(journal.first(), journal.end + 1) for line in lines]
    for line, (body, _) in zip(held, written[journal.first() :], strict=True):
        told = body.event["data"]
        who = f"customer:{told.get('customer') or told.get('respondent')}"
        if line and who in known and erasures.cover(body):
            raise Wrong(f"an event of an erased person is still in the log: {line!r}")


def check_refused(
    journal: Journal, refused: Sequence[tuple[str, bytes]], erasures: Callable[[], Erasures]
) -> list[int]:
    """What was refused can be read back, with its reason, unless it names somebody erased. Returns which can."""
    held = [(rejection.reason.value, body) for _, _, rejection, body in journal.rejected()]
    there: list[int] = []
    for index, one in enumerate(refused):
        if len(there) < len(held) and held[len(there)] == one:
            there.append(index)
        elif not erasures().may_cover(one[1]):
            raise Wrong(f"an event that was refused as {one[0]} is gone")
    if len(there) != len(held):
        raise Wrong(f"{len(held)} refused events can be read back, {len(refused)} were refused")
    return there


def one_line(body: bytes) -> bytes:
    """The body as a line of the log."""
    return body.replace(b"\r", b" ").replace(b"\n", b" ")


def _always(_name: str) -> bool:
    return True


def _told(wrong: Iterable[str], got: Values, driver: Values, truth: Values) -> str:
    names = sorted(wrong, key=lambda name: ("_kpi_" in name, name))
    places = (f"{n} is {got.get(n)}, driver {driver.get(n)}, truth {truth.get(n)}" for n in names[:SHOWN_MAX])
    return f"{len(names)} figures differ: {'; '.join(places)}"
