"""How commands speak: sentences, complaints and progress bars, on standard error."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import click

T = TypeVar("T")

SHOWN_MAX: Final = 500
"""A progress bar is drawn about so many times: drawing must cost nothing beside the work."""


def say(text: str) -> None:
    """A sentence."""
    click.echo(text, err=True)


def complain(error: Exception) -> None:
    """Why the command ends, as a sentence; as a line of the log where there is one."""
    if logging.root.handlers:
        logging.getLogger("agents").critical("%s", error)
    else:
        say(f"flowmetrics: {error}")


def counted(count: int, noun: str) -> str:
    """A number of things.

    >>> counted(1, "file"), counted(2, "file")
    ('1 file', '2 files')
    """
    return f"{count} {noun}{'s' if count > 1 else ''}"


@contextmanager
def bar(length: int, label: str) -> Iterator[Callable[[int], None]]:
    """A progress bar, where somebody looks at it. What it gives is told how much was done since it was told last."""
    if not sys.stderr.isatty():
        yield lambda done: None
        return
    shown: Any
    steps = max(1, length // SHOWN_MAX)
    with click.progressbar(length=length, file=sys.stderr, label=label, update_min_steps=steps) as shown:
        yield shown.update


def each_with_bar(things: Sequence[T], label: str) -> Iterator[T]:
    """The things one after another, with a progress bar over them."""
    with bar(len(things), label) as progress:
        for thing in things:
            yield thing
            progress(1)
