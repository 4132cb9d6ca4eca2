"""What a board asks Prometheus about a KPI, in terms of the recording rules.

    value ──┬── samples, lower, upper             every series of every KPI, as scraped
            └── trusted ──┬── baseline ± spread   only what its alert reads, against one to four weeks ago
                          └── band_low, band_high where it fires

So there are two ways to look at a KPI: as its alert reads it, and as the reader chooses by the variables of the board.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from flowmetrics.configuration import ALL, Configuration
from flowmetrics.kpi import Better, Kpi, Unit
from flowmetrics.publishing.rules.cells import TOTALS, Watched, watched
from flowmetrics.publishing.rules.recording import of_any_worker

COUNTED: Final = frozenset({Unit.ITEMS, Unit.REQUESTS, Unit.USERS})
"""What adds up over value streams, and is exact however little there is of it."""

PLACED: Final = ("window", "percentile")
"""The choices that the board of one KPI has besides the value stream."""

SCRAPED: Final = ("value", "lower", "upper", "samples", "sufficient")
"""The layers that engines show themselves."""

STREAMS: Final = 'value_stream=~"$value_stream"'


@dataclass(frozen=True, slots=True)
class Cut:
    """The series of a KPI that a panel shows: which are matched, and by which labels they differ.

    `place` are the choices of another board that shows them too, as the end of its address.
    """

    kpi: Kpi
    matchers: str
    drawn: tuple[str, ...]
    place: str

    def layer(self, name: str) -> str:
        """A layer of these series."""
        return layer(name, self.matchers)


def as_alert_reads(each: Watched) -> Cut:
    """Totals over the window and at the percentile that the alert goes by.

    >>> as_alert_reads(watched(Configuration())[0]).matchers
    'kpi="flow_time",item_type="all",window="7d",percentile="p85",value_stream=~"$value_stream"'
    """
    return Cut(
        each.kpi,
        f"{each.selector},{STREAMS}",
        tuple(label for label in each.kpi.labels if label not in each.cells),
        "".join(f"&var-{label}={each.cells[label]}" for label in PLACED if label in each.cells),
    )


def as_chosen(kpi: Kpi, choices: Mapping[str, str], free: tuple[str, ...] = (), **fixed: str) -> Cut:
    """By the variables `choices` of the board, but for labels that are `free`, or `fixed` to a value.

    A mix, which is what a whole is made of, is always shown by its parts.

    >>> from flowmetrics.kpis.flow import FLOW_KPIS
    >>> cut = as_chosen(FLOW_KPIS[0], {"item_type": "all", "window": "7d"}, window="1d")
    >>> cut.matchers, cut.drawn
    ('kpi="flow_time",value_stream=~"$value_stream",item_type=~"$item_type",window="1d"', ('percentile',))
    """
    matchers, drawn = [f'kpi="{kpi.name}"', STREAMS], []
    for label in kpi.labels:
        if label in fixed:
            matchers.append(f'{label}="{fixed[label]}"')
        elif is_mix(kpi) and label in TOTALS:
            matchers.append(f'{label}!="{ALL}"')
            drawn.append(label)
        elif label in free or label not in choices:
            drawn.append(label)
        else:
            matchers.append(f'{label}=~"${label}"')
    place = "".join(f"&${{{label}:queryparam}}" for label in PLACED if f'{label}=~"${label}"' in matchers)
    return Cut(kpi, ",".join(matchers), tuple(drawn), place)


def usual_choices(configuration: Configuration) -> Mapping[str, str]:
    """Label → what is chosen at first: what most alerts read.

    >>> usual_choices(Configuration())["window"], usual_choices(Configuration())["percentile"]
    ('7d', 'p85')
    """
    cells = [each.cells for each in reversed(watched(configuration))]
    return {"mode": "on"} | {label: value for cell in cells for label, value in cell.items()}


def is_mix(kpi: Kpi) -> bool:
    """Whether it says of what a whole is made: shares of which none is better than another."""
    return kpi.unit is Unit.RATIO and kpi.better is Better.NEITHER


def layer(name: str, matchers: str) -> str:
    """A layer of the KPIs: what engines show, or what is recorded.

    >>> layer("trusted", 'kpi="nps"')
    'flowmetrics:kpi:trusted{kpi="nps"}'
    """
    return of_any_worker(scraped(name, matchers)) if name in SCRAPED else f"flowmetrics:kpi:{name}{{{matchers}}}"


def scraped(name: str, matchers: str = "") -> str:
    """The series that engines show of a metric of all KPIs."""
    return f"flowmetrics_kpi_{name}{{{matchers}}}"


def any_kpi(kpi: str, *labels: str) -> str:
    """The matchers of whatever KPI: a label that it has is as chosen, one that it lacks matches anyway.

    >>> any_kpi('kpi=~"$kpi"', "window")
    'kpi=~"$kpi",value_stream=~"$value_stream",window=~"(?:$window)?"'
    """
    return ",".join((kpi, STREAMS, *(f'{label}=~"(?:${label})?"' for label in labels)))


def enough(matchers: str) -> str:
    """The values under which there are enough samples to lean on."""
    return f"{layer('value', matchers)} and {layer('sufficient', matchers)} == 1"


def way_to_alert(matchers: str) -> str:
    """How much of the way from what is usual to its alert each series has gone: 1 is where the alert fires."""
    trusted, usual = layer("trusted", matchers), layer("baseline", matchers)
    sides = (f"({trusted} - {usual}) / ({layer(band, matchers)} - {usual})" for band in ("band_high", "band_low"))
    return " or ".join(sides)


# --- over value streams -------------------------------------------------------------------------------------------


def together(cut: Cut, name: str, by: str = "") -> str:
    """A layer over value streams: counts add up; anything else is a mean, weighted by the samples under it.

    The weighted mean of scores and shares is that of all answers; of percentiles it is a mean of percentiles, because
    a percentile of the whole cannot be had from those of the parts.
    """
    total, one = _total(by), cut.layer(name)
    if cut.kpi.unit in COUNTED:
        return f"{total} ({one})"
    samples = cut.layer("samples")
    return f"{total} ({one} * {samples}) / ({total} ({samples} and {one}) > 0)"


def change_together(each: Watched, by: str = "") -> str:
    """How far a KPI is from what is usual, over the value streams of which both are known.

    A share of what is usual, or, where the alert goes by points, because a score may be zero, the difference.
    """
    cut, total = as_alert_reads(each), _total(by)
    trusted, usual, samples = (cut.layer(name) for name in ("trusted", "baseline", "samples"))
    weight = "" if cut.kpi.unit in COUNTED else f" * {samples}"
    now, before = f"{total} ({trusted}{weight} and {usual})", f"{total} ({usual}{weight} and {trusted})"
    if each.declared.points:
        return f"({now} - {before}) / ({total} ({samples} and {trusted} and {usual}) > 0)"
    return f"{now} / ({before} != 0) - 1"


def _total(by: str) -> str:
    return f"sum by ({by})" if by else "sum"
