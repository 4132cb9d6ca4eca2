"""The commands of the public contract. Exit codes: 0 well, 1 the work failed, 2 wrong use."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import click

from agents.files import read_events, sizes
from agents.replay import Replay, json_lines, openmetrics
from agents.settings import load_configuration
from flowmetrics import __version__
from flowmetrics.errors import ConfigurationError, FlowmetricsError, Rejection
from flowmetrics.instants import parse_instant
from flowmetrics.sources.rows import RowMapping, parse_mapping

P = ParamSpec("P")
R = TypeVar("R")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="flowmetrics")
def main() -> None:
    """True, current KPIs of work, customers and surveys, as Prometheus metrics.

    \b
    Start here:
      flowmetrics demo                  a simulated company on http://localhost:8080
      flowmetrics run                   the engine, with ./flowmetrics.yaml if there is one
    """
