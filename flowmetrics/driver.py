"""The engine in memory, for replay and for tests: the real steps, a clock that is moved by hand, no store.

>>> from flowmetrics.instants import parse_instant
>>> driver = Driver(Configuration(kpis=("flow_velocity",)))
>>> driver.deliver([b'{"specversion":"1.0","id":"1","source":"s","type":"flowmetrics.item.v1",'
...     b'"time":"2025-01-01T00:00:00Z","data":{"item":"A","value_stream":"shop","state":"Done"}}'])
>>> driver.advance(parse_instant("2025-01-01T01:00:00Z"))
>>> driver.families()[0].samples[0]
Sample(labels=(('value_stream', 'shop'), ('item_type', 'all'), ('window', '1d')), value=1.0)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from flowmetrics.configuration import Configuration
from flowmetrics.entity import History
from flowmetrics.errors import Rejection
from flowmetrics.families import Family
from flowmetrics.source import FAR_FUTURE, Timed
from flowmetrics.sources.cloudevents import CloudEvents
from flowmetrics.steps.series import SeriesTable
from flowmetrics.steps.track import Touched, entity_of, keyed
from flowmetrics.topology import assemble


class Histories(dict[str, History]):
    """Histories in memory; a fresh one for a key never seen."""

    def __missing__(self, key: str) -> History:
        history: History = entity_of(key).history()
        self[key] = history
        return history


class Driver:
    """One partition of the engine in memory. Events ahead of the clock are held until it reaches them."""

    def __init__(self, configuration: Configuration, now: int = 0) -> None:
        self.configuration = configuration
        self.table = SeriesTable(())
        self.histories: Mapping[str, History] = Histories()
        self.track, self.tally, self.read = assemble(configuration, self.table, now)
        self.source = CloudEvents(configuration.surveys)
        self.held: list[Timed] = []
        self._touched: Touched = {}
        self.rejected: list[Rejection] = []
        self.now = now

    def deliver(self, lines: Iterable[bytes]) -> None:
        """Take one batch of native events."""
        timed = []
        for line in lines:
            answer = self.source.read(line, FAR_FUTURE)
            if isinstance(answer, Rejection):
                self.rejected.append(answer)
            else:
                timed.append(answer)
        self.take(timed)

    def take(self, batch: Sequence[Timed]) -> None:
        """Take one batch of accepted events."""
        self.gather(batch)
        self.settle()

    def gather(self, batch: Sequence[Timed]) -> None:
        """Take one batch of accepted events without asking yet what they contribute: cheaper for many batches."""
        self.held += [timed for timed in batch if timed[0] > self.now]
        self.track.join(keyed(timed for timed in batch if timed[0] <= self.now), self.histories, self._touched)

    def settle(self) -> None:
        """Bring the panes up to what was gathered."""
        touched, self._touched = self._touched, {}
        self.tally.apply(self.track.emit(touched, self.histories))

    def advance(self, now: int) -> None:
        """Move the clock; what was held until then is taken."""
        self.now = max(now, self.now)
        due, self.held = self.held, []
        self.take(due)
        self.tally.advance(self.now)

    def families(self) -> list[Family]:
        """What is published now."""
        return self.read.families(self.tally, self.now)
