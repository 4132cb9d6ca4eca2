"""What is right with many workers: the figures of all of them together, the books over all partitions, the stores
against the changelogs, and at any moment: what one worker shows is the truth of what it has counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from random import Random
from typing import Final

import msgspec
from judge import TIGHT_MAX, Values, Wrong, check_figures, driven, values_of
from workload import Body

from agents.histories import HotHistories
from agents.kafka import tallying, tracking
from agents.kafka.epochs import Epoch
from agents.kafka.topics import Topics
from agents.kafka.units import TallyUnit, Unit
from flowmetrics.configuration import CUSTOMER_AHEAD_US, Configuration
from flowmetrics.entity import unpack
from flowmetrics.families import Family
from flowmetrics.instants import DAY_US
from flowmetrics.kpis import selected
from flowmetrics.limits import EVENT_BYTES_MAX, LATENESS_DAYS
from flowmetrics.routing import partition_of
from flowmetrics.steps.series import Series, SeriesTable
from flowmetrics.steps.tally import DROPPED
from flowmetrics.steps.track import Track
from flowmetrics.windowing.bins import BINS
from workers.broker import Broker, Entry
from workers.store import SimulatedStore, Table

_CHANGES: Final = msgspec.msgpack.Decoder(tracking.Changes).decode
_POSITION: Final = msgspec.msgpack.Decoder(tracking.Position).decode
_SERIES: Final = msgspec.msgpack.Decoder(tuple[str, ...]).decode


def check_page(
    units: Iterable[TallyUnit], known: Sequence[Body], now: int, configuration: Configuration, rng: Random, brute: bool
) -> Values:
    """Hold what all units publish together against both judges; each series must be on one page only. Brute force knows
    no choice of KPIs."""
    pages: list[list[Family]] = []
    for unit in units:
        pages.append(unit.state.reading(now).families)
        if unit.state.now != now:
            raise Wrong(f"{unit.name} is ahead of every clock")
    shown = [values_of(page) for page in pages]
    if sum(map(len, shown)) != len(set(chain(*shown))):
        raise Wrong("a series is on two pages")
    return check_figures(chain(*pages), known, now, configuration, rng, brute and configuration.kpis == ("*",))


def check_refused(broker: Broker, topics: Topics, refused: Iterable[tuple[str, bytes]]) -> None:
    """What was refused is on the topic for it, each delivery once."""
    found: Counter[tuple[str, bytes]] = Counter()
    for number in range(topics.partitions):
        for entry in broker.partition(topics.rejected, number).committed(0):
            found[dict(entry.headers)["reason"].decode(), entry.value or b""] += 1
    called_for = Counter((reason, line[:EVENT_BYTES_MAX]) for reason, line in refused)
    if found != called_for:
        lost, more = called_for - found, found - called_for
        raise Wrong(f"{lost.total()} refused events cannot be read back, {more.total()} were refused more than once")


def laid_out(broker: Broker, topic: str, number: int) -> Table:
    """The table that a changelog partition is."""
    table, partition = Table(), broker.partition(topic, number)
    table.fill(((entry.key or b"", entry.value) for entry in partition.committed(0)), partition.stable)
    return table


def check_books(broker: Broker, topics: Topics, configuration: Configuration, now: int) -> None:
    """Over all partitions: facts, what was emitted and panes agree. Everything must be taken and stored."""
    emitted: Counter[tuple[Series, int]] = Counter()
    for number in range(topics.partitions):
        _add_emitted(emitted, SimulatedStore(laid_out(broker, topics.track, number)), number, topics, configuration)
    oldest = configuration.pane(now) - configuration.panes(configuration.horizon_us)
    for number in range(topics.partitions):
        here = {
            (series, cell): amount
            for (series, cell), amount in emitted.items()
            if partition_of(series[1].encode(), topics.partitions) == number
        }
        _check_panes(here, SimulatedStore(laid_out(broker, topics.tally, number)), configuration, oldest)


def _add_emitted(
    emitted: Counter[tuple[Series, int]],
    store: SimulatedStore,
    number: int,
    topics: Topics,
    configuration: Configuration,
) -> None:
    table = SeriesTable((int.from_bytes(key, "big"), _SERIES(value)) for key, value in store.beginning(tracking.SERIES))
    track = Track(configuration, selected(configuration), table)
    epoch = _POSITION(store.get([tracking.POSITION])[0] or b"").epoch
    histories = HotHistories(tracking.StoredHistories(store), 1_000_000, epoch)  # type: ignore[arg-type]
    for key, _ in store.beginning(tracking.HISTORY):
        entity = key.decode()
        if partition_of(key, topics.partitions) == number:
            called_for = track.contributions(entity, histories)
            held = {part: unpack(packed) for part, packed in histories[entity].contributed.items() if packed}
            if called_for != held:
                raise Wrong(f"audit: contributions of {entity}: called for {called_for}, found {held}")
            for series, cell, amount in chain(*held.values()):
                emitted[table.series(series), cell] += amount


def _check_panes(
    emitted: Mapping[tuple[Series, int], int], store: SimulatedStore, configuration: Configuration, oldest: int
) -> None:
    position = msgspec.msgpack.decode(store.get([tallying.POSITION])[0] or b"", type=tallying.Position)
    table = SeriesTable((int.from_bytes(key, "big"), _SERIES(value)) for key, value in store.beginning(tallying.SERIES))
    panes = tallying.Panes(Epoch(position.epoch, configuration), table, position.now, lambda stream: True)
    panes.load(store)  # type: ignore[arg-type]
    tally = panes.tally
    for kind in (tallying.SEGMENT, tallying.SHOWN):
        if any(int.from_bytes(key[:8], "big") != position.epoch for key, _ in store.beginning(kind)):
            raise Wrong("panes of a former epoch are left")
    called_for: Counter[tuple[int, int]] = Counter()
    for (series, cell), amount in emitted.items():
        shown = tally.shown(table.number(series))
        if shown != DROPPED:
            called_for[shown, cell] += amount
    found = tally.cells()
    for series, cell in sorted(called_for.keys() | found.keys()):
        if cell // BINS > oldest and called_for[series, cell] != found.get((series, cell), 0):
            place = f"{' '.join(table.series(series))}, pane {cell // BINS}, bin {cell % BINS}"
            raise Wrong(f"audit: {place}: called for {called_for[series, cell]}, found {found.get((series, cell), 0)}")


def check_forgotten(broker: Broker, topics: Topics, configuration: Configuration, now: int) -> int:
    """No history is left that lay outside every reading when the day began; how many are known to be gone."""
    silent_us = 2 * configuration.horizon_us + CUSTOMER_AHEAD_US + LATENESS_DAYS * DAY_US
    oldest, gone = now - now % DAY_US - silent_us, 0
    for number in range(topics.partitions):
        for key, value in laid_out(broker, topics.track, number).rows.items():
            if key.startswith(tracking.HISTORY) and int.from_bytes(value[:8], "big") < oldest:
                raise Wrong(f"the history of {key[1:].decode()} is kept, and nothing was told of it since {oldest}")
        changelog = broker.partition(topics.track, number).committed(0)
        gone += sum((entry.key or b"").startswith(tracking.HISTORY) and entry.value is None for entry in changelog)
    return gone


def check_store(broker: Broker, topics: Topics, unit: Unit, table: Table) -> None:
    """A store holds what its changelog says, up to where it is filled."""
    right = laid_out(broker, topics.changelog(unit.step), unit.number)
    if table.rows != right.rows:
        keys = sorted(
            key for key in table.rows.keys() | right.rows.keys() if table.rows.get(key) != right.rows.get(key)
        )
        raise Wrong(f"the store of {unit.name} differs from its changelog in {keys}")


class Counted:
    """What tally has counted at a moment: of each partition of track the events up to a position, as it stood then."""

    def __init__(self, broker: Broker, topics: Topics, unit: TallyUnit) -> None:
        self._broker = broker
        self._topics = topics
        self.checkpoints: dict[int, tracking.Position] = {}
        """The latest checkpoint of each partition of track that was taken."""
        for entry in broker.partition(topics.changes, unit.number).committed(0):
            if entry.offset < unit.state.position.changes and (position := position_of(entry, topics)):
                self.checkpoints[_CHANGES(entry.value or b"").partition] = position

    def events(self) -> Iterable[tuple[Entry, int, int]]:
        """The events that were taken, the partition that took them, and its clock."""
        for number, position in self.checkpoints.items():
            for entry in self._broker.partition(self._topics.events, number).committed(0):
                if entry.offset < position.events:
                    yield entry, number, position.now


def arrived_at(entry: Entry) -> int:
    """When an event arrived first."""
    return tracking.arrived_at(entry)


def position_of(entry: Entry, topics: Topics) -> tracking.Position | None:
    """The position that was committed together with a record of track, if anything was."""
    stored = entry.transaction and entry.transaction.wrote.get((topics.track, tracking.POSITION))
    return _POSITION(stored) if stored else None  # type: ignore[arg-type]


def check_counted(
    unit: TallyUnit,
    reading: tallying.Reading,
    bodies: Sequence[Body],
    configuration: Configuration,
    rng: Random,
    partitions: int,
) -> None:
    """What one unit shows is the truth of the events that it has counted."""
    got = values_of(reading.families)
    if configuration.labels_max <= TIGHT_MAX:
        return
    truth = {
        name: value
        for name, value in driven(bodies, unit.state.now, configuration, rng).items()
        if partition_of(name.partition('value_stream="')[2].partition('"')[0].encode(), partitions) == unit.number
    }
    wrong = sorted(name for name in got.keys() | truth.keys() if got.get(name) != truth.get(name))
    if wrong:
        places = "; ".join(f"{name} is {got.get(name)}, truth {truth.get(name)}" for name in wrong[:3])
        raise Wrong(f"{unit.name} shows {len(wrong)} figures that are wrong of what it counted: {places}")


def check_claims(broker: Broker, topics: Topics, tolerance_us: int) -> None:
    """What a checkpoint of track claims to hold, up to some arrival, it holds; also of what was not decided yet."""
    for entry in broker.partition(topics.changes, 0).committed(0):
        told, position = _CHANGES(entry.value or b""), position_of(entry, topics)
        events = broker.partition(topics.events, told.partition)
        left = next(events.undenied(position.events), None) if position else None
        if left is not None and left.timestamp * 1000 <= told.complete_until - tolerance_us:
            late = (told.complete_until - left.timestamp * 1000) / 1e6
            raise Wrong(
                f"track-{told.partition} said at {told.now} that all up to {told.complete_until} is counted, "
                f"and did not count an event that had arrived {late:.3f} s before"
            )
