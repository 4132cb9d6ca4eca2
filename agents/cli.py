"""The commands of the public contract. Exit codes: 0 well, 1 the work failed, 2 wrong use."""

from __future__ import annotations

from typing import ParamSpec, TypeVar

import click

from flowmetrics import __version__

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
