"""Why a number is so: the facts of one entity, how they are read, and what they contribute to which series."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from flowmetrics.configuration import Configuration
from flowmetrics.entities.customer import CustomerHistory
from flowmetrics.entities.request import RequestFact, RequestHistory
from flowmetrics.entities.slots import slot_begin
from flowmetrics.entities.transitions import steps
from flowmetrics.entities.work_item import ItemFact, ItemHistory
from flowmetrics.entity import History, Packed, unpack
from flowmetrics.instants import SECOND_US, instant_text
from flowmetrics.kpi import Kpi
from flowmetrics.steps.series import SeriesTable
from flowmetrics.windowing.bins import BINS, bin_duration_us


def explanation(
    key: str, history: History, contributions: Mapping[str, Packed], table: SeriesTable,
    kpis: tuple[Kpi, ...], configuration: Configuration,
) -> Iterator[str]:  # fmt: skip
    """Lines of text: facts in order, then contributions, each with the KPIs that read it."""
    yield key
    yield ""
    yield "facts, in order:"
    if isinstance(history, ItemHistory | RequestHistory):
        yield from _transitions(history, configuration)
    elif isinstance(history, CustomerHistory):
        yield from _person(history, configuration)
    if history.mentioned:
        yield f"  once named together with {', '.join(sorted(history.mentioned))}"
    yield ""
    yield "contributions (series, pane that ends at, amount):"
    rows = [one for some in contributions.values() for one in unpack(some)]
    for series, cell, amount in sorted(rows, key=lambda row: (row[1], row[0])):
        yield f"  {_contribution(table.series(series), cell, amount, configuration)}"
    if not rows:
        yield "  none: nothing of it is counted"
    yield ""
    yield "read by:"
    measures = {table.series(series)[0] for series, _, _ in rows}
    for kpi in kpis:
        if measures & {measure.name for measure in kpi.measures}:
            yield f"  {kpi.metric}: {kpi.question}"


def _transitions(history: ItemHistory | RequestHistory, configuration: Configuration) -> Iterator[str]:
    previous = None
    for fact, _, state, paused in steps(history.facts, configuration):
        waited = f"after {(fact.at - previous) / SECOND_US:,.0f} s" if previous is not None else "created"
        reading = f"{state.name.lower()}{' (time left out)' if paused else ''}"
        told = {name: getattr(fact, name, None) for name in _TOLD}
        extras = " ".join(f"{name}={value}" for name, value in told.items() if value is not None)
        yield f"  {instant_text(fact.at)}  {fact.value_stream}  {fact.state!r} = {reading}, {waited}  {extras}".rstrip()
        previous = fact.at
    stream_name = history.facts[-1].value_stream
    stream = configuration.stream(stream_name)
    yield f"  ({len(history.facts)} facts; {stream_name}: start {stream.start}, reopen_gap {stream.reopen_gap})"


_TOLD = ("id", *(name for kind in (ItemFact, RequestFact) for name in kind.__struct_fields__[6:]))


def _person(history: CustomerHistory, configuration: Configuration) -> Iterator[str]:
    for name, (order, value) in sorted(history.profile.attributes.items()):
        yield f"  {name} = {value}, since {instant_text(order[0])}"
    for stream, visits in sorted(history.visits.items()):
        days = [instant_text(slot_begin(slot, configuration.grain_us)) for slot in visits.slots]
        yield f"  active in {stream}: {len(days)} first and last times of days, latest {days[-1] if days else 'never'}"
        for feature, slot in sorted(visits.uses.items()):
            yield f"    {feature}: last used about {instant_text(slot_begin(slot, configuration.grain_us))}"
    for name, streams in sorted(history.profile.milestones.items()):
        for stream, instants in sorted(streams.items()):
            yield f"  milestone {name} in {stream or 'every value stream'}: {', '.join(map(instant_text, instants))}"
    for response, answer in sorted(history.profile.answers.items()):
        yield f"  answer {response}: {answer.survey} {answer.score} at {answer.touchpoint or 'no touchpoint'}"
    if history.erased_at >= 0:
        yield f"  erased up to {instant_text(history.erased_at)}"


def _contribution(series: tuple[str, ...], cell: int, amount: int, configuration: Configuration) -> str:
    pane, number = divmod(cell, BINS)
    told = f"{series[0]} {{{', '.join(series[1:])}}}  {instant_text(pane * configuration.resolution_us)}  {amount:+d}"
    return f"{told}  in the bin of {bin_duration_us(number) / SECOND_US:,.0f} s" if number else told
