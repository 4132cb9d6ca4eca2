"""How a history is written down: in stores, on changelogs, and in letters."""

from __future__ import annotations

from typing import Final

import msgspec

from flowmetrics.entity import History
from flowmetrics.steps.track import ENTITIES

_ENCODE: Final = msgspec.msgpack.Encoder().encode
_DECODE: Final = {entity.prefix: msgspec.msgpack.Decoder(entity.history).decode for entity in ENTITIES}


def encode_history(history: History) -> bytes:
    """A history with what it contributed, as bytes."""
    return _ENCODE(history)


def encode_facts(history: History) -> bytes:
    """A history without what it contributed, as bytes."""
    contributed, history.contributed = history.contributed, {}
    body = _ENCODE(history)
    history.contributed = contributed
    return body


def decode_history(key: str, body: bytes) -> History:
    """The history of a key from its bytes. Raises msgspec.MsgspecError where they are damaged."""
    history: History = _DECODE[key.partition(":")[0]](body)
    return history
