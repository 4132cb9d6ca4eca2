"""Which files can be generated, and which folders hold nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from flowmetrics.configuration import Configuration
from flowmetrics.publishing import chart, pages
from flowmetrics.publishing.dashboards import files as dashboards
from flowmetrics.publishing.rules import files as rules


class Publication(NamedTuple):
    """One kind of generated files.

    `documents` gives path under the current directory → text, for a configuration. `folders` hold generated files only:
    any other file in one of them, of a suffix that is generated there, is an orphan.
    """

    documents: Callable[[Configuration], Mapping[str, str]]
    folders: tuple[str, ...]


PUBLICATIONS: Final[Mapping[str, Publication]] = {
    "docs": Publication(pages.documents, ("docs/kpis",)),
    "rules": Publication(rules.documents, rules.FOLDERS),
    "dashboards": Publication(dashboards.documents, ("deploy/grafana",)),
    "chart": Publication(chart.documents, ("deploy/chart",)),
}
"""The words that `flowmetrics generate` takes."""
