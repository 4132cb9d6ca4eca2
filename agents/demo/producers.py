"""A simulated company, as the demo command sees it: weeks of past, and a present that goes on from there.

A day of such a company is too slow to watch, so the present is told in quicker time: event times are real, but an hour
of business takes ten to thirty seconds. What is finished live has been under way for days, so times are as they were.
Three things follow, and are meant. Counts over 24 hours climb in the healthy streams, while percentiles, ratios and
scores stay about level. Work begun live is finished after days, as work is: the stock begun before thins out, the
median age of open items falls, and after half an hour less is finished. And customers leave the rolling 24
hours only after 24 hours: so checkout has a flash sale every day at the same time, and those whom yesterday's sale
brought leave when today's does not open.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from random import Random
from typing import Final

import msgspec

from agents.demo.history import live_through
from agents.demo.present import Present
from agents.demo.streams import STREAMS, Told
from flowmetrics.instants import DAY_US, MINUTE_US, SECOND_US, instant_text

SLUMP_AFTER_US: Final = 2 * MINUTE_US
PANE_US: Final = 5 * MINUTE_US
"""The default resolution: yesterday's sale lies in one pane, so that its customers leave at a known time."""


class Company:
    """A company with three value streams: the same seed and the same beginning tell the same events.

    `begin` is the instant at which the past ends and the present begins; ask for the past first.

    >>> company = Company(seed=7, begin=1_740_787_200_000_000)
    >>> first = next(company.past(days=3))
    >>> company.slump_at - 1_740_787_200_000_000 == 2 * MINUTE_US
    True
    """

    def __init__(self, seed: int, begin: int) -> None:
        self.begin = begin
        self._seed = seed
        self._told = 0
        self._present: Present | None = None

    @property
    def slump_at(self) -> int:
        """The instant at which checkout begins to slump."""
        return self.begin + SLUMP_AFTER_US

    @property
    def sale_at(self) -> int:
        """The instant at which today's flash sale of checkout does not open: within five minutes of the slump."""
        return (self.slump_at // PANE_US + 1) * PANE_US

    @property
    def story(self) -> str:
        """What a viewer should see, and when."""
        return _STORY.format(slump=instant_text(self.slump_at)[11:16], sale=instant_text(self.sale_at)[11:16])

    def past(self, days: int = 45) -> Iterator[bytes]:
        """The events of the days before `begin`, a line of JSON each without its end, in order of time.

        Asking again begins the company anew.
        """
        start = self.begin - days * DAY_US
        told: list[Told] = []
        branches = []
        for stream in STREAMS:
            random = Random(f"{self._seed} {stream.name}")
            events, branch = live_through(random, stream, start, self.begin, self.sale_at)
            told += events
            branches.append(branch)
        told.sort(key=lambda event: event[0])
        self._told = 0
        self._present = Present(Random(f"{self._seed} present"), branches, self.begin, self.slump_at)
        return self._lines(told)

    def until(self, instant: int) -> list[bytes]:
        """The events after those told last and up to an instant, as lines in order of time.

        The same in many small steps as in one large one.
        """
        assert self._present is not None, "the present goes on from the past: ask for the past first"
        return list(self._lines(self._present.until(instant)))

    def _lines(self, told: Iterable[Told]) -> Iterator[bytes]:
        """Number the events in order of time: the past and the present share one row of numbers."""
        for at, kind, stream, fields in told:
            self._told += 1
            event = {
                "specversion": "1.0",
                "id": f"{self._seed}-{self.begin // SECOND_US}-{self._told}",
                "source": f"demo/{stream}",
                "type": f"flowmetrics.{kind}.v1",
                "time": instant_text(at),
                "data": {"value_stream": stream, **fields},
            }
            yield msgspec.json.encode(event)


_STORY: Final = """\
Three value streams: checkout, search and mobile-app. A day's work passes in five to fifteen minutes, so counts over \
24 hours climb, while times, ratios and scores stay about level. At {slump} UTC checkout slumps; the others do not.
Within two or three minutes, over 24 hours: its flow time at p85 doubles and the median follows, its velocity stands \
still or falls, items wait (flow load) and are reopened. Requests pile up (requests open) and are resolved late; \
NPS, CSAT and CES turn sour.
At {sale} UTC its daily flash sale does not open: active users over 24 hours lose the third that came for it yesterday.\
"""
