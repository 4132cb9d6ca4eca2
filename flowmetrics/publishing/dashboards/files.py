"""Grafana boards as files: what `flowmetrics generate dashboards` writes."""

from __future__ import annotations

from collections.abc import Mapping

from flowmetrics.configuration import Configuration
from flowmetrics.errors import OperationError
from flowmetrics.publishing.dashboards.boards import boards


def documents(configuration: Configuration) -> Mapping[str, str]:
    """Path under the project → classic dashboard JSON, one for each board.

    Raises OperationError where the Foundation SDK, which is needed for this alone, is not installed.
    """
    try:
        from flowmetrics.publishing.dashboards.grafana import render
    except ImportError as error:
        raise OperationError(f"boards need {error.name}; install flowmetrics[dashboards]") from None
    return {f"deploy/grafana/{board.uid}.json": render(board) for board in boards(configuration)}
