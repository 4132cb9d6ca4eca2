"""How a history is written down: in stores, on changelogs, and in letters.

A stored history says which epoch was published then. When a later one is published no history is written anew: what it
contributed under the coming epoch becomes what it contributed when it is next read.
"""

from __future__ import annotations

from typing import Final

import msgspec

from flowmetrics.entity import History
from flowmetrics.steps.track import ENTITIES

_ENCODE: Final = msgspec.msgpack.Encoder().encode
_DECODE: Final = {entity.prefix: msgspec.msgpack.Decoder(entity.history).decode for entity in ENTITIES}


def encode_history(history: History, epoch: int = 0) -> bytes:
    """A history with what it contributed, as bytes; `epoch` is the published one."""
    history.epoch = epoch
    return _ENCODE(history)


def encode_facts(history: History) -> bytes:
    """A history without what it contributed, as bytes."""
    contributed, coming = history.contributed, history.coming
    history.contributed, history.coming, history.epoch = {}, {}, 0
    body = _ENCODE(history)
    history.contributed, history.coming = contributed, coming
    return body


def decode_history(key: str, body: bytes, epoch: int = 0) -> History:
    """The history of a key from its bytes, as of the published epoch.

    Raises msgspec.MsgspecError where they are damaged.
    """
    history: History = _DECODE[key.partition(":")[0]](body)
    if history.epoch < epoch:
        history.contributed, history.coming, history.epoch = history.coming, {}, epoch
    return history
