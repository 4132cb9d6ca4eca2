"""The commands of the public contract. Exit codes: 0 well, 1 the work failed, 2 wrong use."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from functools import wraps
from pathlib import Path
from typing import ParamSpec

import click
from click.shell_completion import get_completion_class

from agents import commands
from agents.commands.telling import complain
from agents.settings import load_configuration
from flowmetrics import __version__
from flowmetrics.errors import FlowmetricsError
from flowmetrics.publishing.publications import PUBLICATIONS

P = ParamSpec("P")


def _told(command: Callable[P, None]) -> Callable[P, None]:
    """Errors that a person can act on become one message and an exit code; a closed pipe is no error."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
            sys.stdout.flush()
        except FlowmetricsError as error:
            complain(error)
            sys.exit(error.exit_code)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    return run


_config = click.option("--config", metavar="FILE", help="The configuration; otherwise ./flowmetrics.yaml if it exists.")
_files = click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
_map = click.option("--map", "mapping", metavar="MAP.yaml", type=click.Path(path_type=Path), help="How rows are read.")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="flowmetrics")
def main() -> None:
    """True, current KPIs of work, customers and surveys, as Prometheus metrics.

    \b
    Start here:
      flowmetrics demo          a simulated company on http://localhost:8080
      flowmetrics run           the engine, with ./flowmetrics.yaml if there is one
      flowmetrics replay FILE   the KPIs of an export, with nothing stored
    """


@main.command()
@click.option("--listen", metavar="HOST:PORT", default="127.0.0.1:8080", show_default=True, help="Where to serve.")
@click.option("--seed", default=7, show_default=True, help="Another number is another company.")
@click.option("--days", default=45, show_default=True, type=click.IntRange(1, 365), help="How much past it has.")
@_told
def demo(listen: str, seed: int, days: int) -> None:
    """A simulated company with a slump after two minutes; nothing of it is kept.

    \b
    Example:
      flowmetrics demo
    """
    commands.demo(listen, seed, days)


@main.command()
@_config
@_told
def run(config: str | None) -> None:
    """The engine: collector, agents, metrics, page.

    \b
    Example:
      flowmetrics run --config flowmetrics.yaml
    """
    commands.run(load_configuration(config))


@main.command()
@click.option("--url", default="http://127.0.0.1:8080", show_default=True, help="Where the engine serves.")
@click.option("--token-file", type=click.Path(path_type=Path), help="The token, where the engine asks for one.")
@click.option("--once", is_flag=True, help="Print the table once and end, for pipes.")
@click.option("--all", "everything", is_flag=True, help="All series, not only those that alerts read.")
@_told
def top(url: str, token_file: Path | None, once: bool, everything: bool) -> None:
    """What the page shows, in the terminal: the state of each KPI, and the items behind it.

    Enter goes down, w shows the work of a value stream, / filters, s sorts, a shows all series, q quits.

    \b
    Example:
      flowmetrics top
      flowmetrics top --once | grep drifting
    """
    commands.top(url, token_file, once, everything)


@main.command(name="import")
@_files
@_map
@_config
@_told
def import_(files: Iterable[Path], mapping: Path | None, config: str | None) -> None:
    """Take JSON Lines (native or mapped), CSV and Parquet into the event log; safe to repeat.

    An engine that runs on the data directory is sent the events. On Kafka they go to the events topic, whether workers
    run or not.

    \b
    Example:
      flowmetrics import tickets.csv --map tickets.yaml
    """
    commands.import_files(list(files), mapping, load_configuration(config))


@main.command()
@_files
@_map
@_config
@click.option("--at", "ats", metavar="TIME", multiple=True, required=True, help="RFC 3339; may be given several times.")
@click.option("--format", "form", type=click.Choice(["json", "openmetrics"]), default="json", show_default=True)
@_told
def replay(files: Iterable[Path], mapping: Path | None, config: str | None, ats: tuple[str, ...], form: str) -> None:
    """The metrics of files as they stood at each TIME, with nothing stored.

    Every event with time up to TIME is known, and no other; the order of the files and lines does not matter.

    \b
    Example:
      flowmetrics replay events.jsonl.gz --at 2025-03-02T00:00:00Z
    """
    commands.replay(list(files), mapping, load_configuration(config), ats, form)


@main.command()
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@_map
@_config
@click.option("--openmetrics", metavar="OUT", type=click.Path(path_type=Path), help="A new file to write.")
@click.option("--prometheus", metavar="DIRECTORY", type=click.Path(path_type=Path), help="Its data directory.")
@click.option("--from", "start", metavar="TIME", help="RFC 3339; otherwise as long ago as baselines look back.")
@click.option("--to", "end", metavar="TIME", help="RFC 3339; otherwise now.")
@click.option("--step", metavar="DURATION", help="Between two values; a multiple of the resolution, otherwise 5m.")
@click.option("--hole", metavar="DURATION", default="5d", show_default=True, help="No event for longer is a hole.")
@click.option("--retention", metavar="DURATION", default="400d", show_default=True, help="How long it is kept there.")
@click.option("--label", "labels", metavar="NAME=VALUE", multiple=True, help="One that Prometheus gives the engine.")
@_told
def backfill(
    files: tuple[Path, ...], mapping: Path | None, config: str | None, openmetrics: Path | None,
    prometheus: Path | None, start: str | None, end: str | None, step: str | None, hole: str, retention: str,
    labels: tuple[str, ...],
) -> None:  # fmt: skip
    """The KPIs over past time, so that a Prometheus has boards and baselines on the first day.

    They are those of the engine's log, or of FILES. With --prometheus they become blocks in its data directory, and so
    does what the recording rules make of them; it may run or not. With --openmetrics they become a file for `promtool
    tsdb create-blocks-from openmetrics`.

    \b
    Example:
      flowmetrics backfill --prometheus /var/lib/prometheus/metrics2
      flowmetrics backfill --openmetrics history.txt tickets.csv --map tickets.yaml
    """
    wanted = commands.Wanted(openmetrics, prometheus, start, end, step, hole, retention, labels, files, mapping)
    commands.backfill(wanted, load_configuration(config))


@main.command()
@_config
@_told
def audit(config: str | None) -> None:
    """Prove that histories and panes agree; the engine, or every worker on Kafka, must be stopped.

    \b
    Example:
      flowmetrics audit
    """
    commands.audit(load_configuration(config))


@main.command()
@click.argument("kind", type=click.Choice(["item", "request", "customer"]))
@click.argument("key")
@_config
@_told
def explain(kind: str, key: str, config: str | None) -> None:
    """What is known of one item, request or customer, and what it contributes to which KPI.

    The engine, or workers on Kafka, may run meanwhile.

    \b
    Example:
      flowmetrics explain item SHOP-17
    """
    commands.explain(kind, key, load_configuration(config))


@main.command()
@click.option("--replay", "again", is_flag=True, help="Send what was refused again, after a fix.")
@_config
@_told
def rejected(again: bool, config: str | None) -> None:
    """What was refused and why, one JSON object a line; what was sent again is listed no more.

    \b
    Example:
      flowmetrics rejected
      flowmetrics rejected --replay
    """
    commands.rejected(again, load_configuration(config))


@main.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--rest", is_flag=True, help="Move what is left of a log that log.retention has cut.")
@_config
@_told
def move(directory: Path, rest: bool, config: str | None) -> None:
    """Carry a data directory to the Kafka that `broker` names; safe to repeat.

    The engine of the directory and all workers must be stopped. Events keep their arrival stamps, so workers that are
    started afterwards show the same numbers. A log that no longer begins at the first event is refused: what is left
    of it tells less than the directory knows.

    \b
    Example:
      flowmetrics move ./flowmetrics-data --config kafka.yaml
    """
    commands.move(directory, rest, load_configuration(config))


@main.command()
@_config
@_told
def adopt(config: str | None) -> None:
    """Make a configuration the one that all workers on Kafka follow, without a restart.

    A worker that starts with a new configuration does the same; only one that was replaced before needs this.

    \b
    Example:
      flowmetrics adopt --config flowmetrics.yaml
    """
    commands.adopt(load_configuration(config))


@main.command()
@click.argument("what", type=click.Choice([*PUBLICATIONS]))
@_config
@click.option("--check", is_flag=True, help="Write nothing; fail when a file is not what it would be.")
@_told
def generate(what: str, config: str | None, check: bool) -> None:
    """Write what is derived from the catalogue, under the current directory.

    \b
    Example:
      flowmetrics generate docs
      flowmetrics generate docs --check
    """
    commands.generate(what, load_configuration(config), check)


@main.command()
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@_map
@_config
@click.option("--schema", is_flag=True, help="Print the JSON Schema of flowmetrics.yaml for your editor.")
@_told
def validate(files: tuple[Path, ...], mapping: Path | None, config: str | None, schema: bool) -> None:
    """Check configurations, mappings and events; a YAML file with `events:` is a mapping.

    \b
    Example:
      flowmetrics validate flowmetrics.yaml map.yaml events.jsonl
    """
    commands.validate(list(files), mapping, load_configuration(config), schema)


@main.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what lets a shell complete commands and options at the Tab key.

    \b
    Example, for the line at the end of ~/.bashrc, ~/.zshrc or ~/.config/fish/config.fish:
      eval "$(flowmetrics completion bash)"
      eval "$(flowmetrics completion zsh)"
      flowmetrics completion fish | source
    """
    words = get_completion_class(shell)
    assert words is not None, "click knows each of the shells above"
    click.echo(words(main, {}, "flowmetrics", "_FLOWMETRICS_COMPLETE").source())


if __name__ == "__main__":
    main()
