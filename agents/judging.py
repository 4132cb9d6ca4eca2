"""Deliveries on their way in: whether they are taken, and under which ids of persons they may be stored."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from flowmetrics.configuration import Configuration
from flowmetrics.errors import ConfigurationError, Rejection
from flowmetrics.source import Timed
from flowmetrics.sources.cloudevents import CloudEvents
from flowmetrics.sources.pseudonyms import KEY_BYTES_MIN, Pseudonyms


def judged(
    source: CloudEvents, pseudonyms: Pseudonyms | None, bodies: Sequence[bytes], arrived_at: int
) -> Iterable[tuple[bytes, Timed | Rejection]]:
    """What may be stored of each event, and what it says or why it is refused."""
    answers = [source.read(body, arrived_at) for body in bodies]
    return zip(bodies, answers, strict=True) if pseudonyms is None else map(pseudonyms.hide, bodies, answers)


def read_pseudonyms(configuration: Configuration) -> Pseudonyms | None:
    """The pseudonyms under the configured key; None where ids are stored as sent. Raises ConfigurationError."""
    path = configuration.pseudonym_key_file
    return None if path is None else Pseudonyms(_key(path))


def _key(path: str) -> bytes:
    where = f"privacy.pseudonym_key_file {path}"
    try:
        key = Path(path).read_bytes().strip()
    except OSError as error:
        raise ConfigurationError(
            f"{where} cannot be read: {error.strerror}; name a file that this user may read"
        ) from None
    if len(key) < KEY_BYTES_MIN:
        told = f"holds {len(key)} bytes" if key else "is empty"
        raise ConfigurationError(
            f"{where} {told}; write at least {KEY_BYTES_MIN} random bytes into it, once for all: openssl rand -hex 32"
        )
    return key
