"""Shared by the Python peers: what they are told, when which event was done, and the file with their answer.

The clock and the CPU of this process are read at the first event, at a fifth and at the last one; a rate is from a
fifth to the end, so that neither start-up nor warming up is in it.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

TOPIC: Final = os.environ["TOPIC"]
EVENTS: Final = int(os.environ["EVENTS"])
BROKER: Final = os.environ["BROKER"]
RUN: Final = os.environ["RUN_ID"]
"""Consumer group and application: new in every run."""
STATE: Final = os.environ["STATE_DIR"]
RESULT: Final = os.environ["RESULT"]
DAY: Final = 86_400_000
WINDOWS: Final = (1, 7, 30)


class Mark(NamedTuple):
    """How far it was, when, and with how much CPU."""

    events: int
    at: float
    cpu: float


class Marks:
    """Counts events; `add` says whether all are done."""

    def __init__(self) -> None:
        self.events = 0
        self._marks: list[Mark] = []
        self._cuts = [EVENTS, max(2, EVENTS // 5), 1]

    def add(self, events: int = 1) -> bool:
        """So many more are done."""
        self.events += events
        while self._cuts and self.events >= self._cuts[-1]:
            self._cuts.pop()
            self._marks.append(Mark(self.events, time.perf_counter(), time.process_time()))
        return not self._cuts

    def report(self, answer: dict[str, Any]) -> None:
        """Write the answer with the figures."""
        first, fifth, last = self._marks
        begin = fifth if fifth.events < last.events else first
        report(last.events - begin.events, last.at - begin.at, last.cpu - begin.cpu, answer)


def report(events: int, seconds: float, cpu: float, answer: dict[str, Any]) -> None:
    """Write an answer with what so many events took."""
    figures = {"events_per_s": events / seconds, "cpu_s_per_million": cpu / events * 1e6}
    with open(RESULT, "w") as file:
        json.dump({**figures, "answer": answer}, file)


def answer(
    latest: int, flow: Mapping[str, Iterable[tuple[int, int]]], active: Mapping[str, Mapping[int, int]]
) -> dict[str, Any]:
    """Group → (done, flow time) and product → day → customers last seen on it, as the answer at the latest event."""
    today = latest // DAY
    told: dict[str, Any] = {"flow": {}, "active": {}}
    for group, samples in flow.items():
        times = sorted(time for done, time in samples if done > latest - 7 * DAY)
        if times:
            told["flow"][group] = [len(times), _interpolated(times, 0.5), _interpolated(times, 0.95)]
    for product, days in active.items():
        told["active"][product] = [sum(n for day, n in days.items() if today - w < day <= today) for w in WINDOWS]
    return told


def _interpolated(ordered: list[int], part: float) -> float:
    place = (len(ordered) - 1) * part
    low = ordered[int(place)]
    return low + (ordered[min(int(place) + 1, len(ordered) - 1)] - low) * (place - int(place))
