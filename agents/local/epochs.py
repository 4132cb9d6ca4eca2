"""What a data directory knows of epochs: which one is published, and how far the coming one is."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from flowmetrics.epochs import Sweep
from flowmetrics.topology import Steps


class Epochs(msgspec.Struct, array_like=True, frozen=True):
    """The numbers, as they are stored. One is given once: what is left of an epoch that was given up is no other's."""

    published: int = 0
    begun: int = 0
    """The last number that was given."""
    shape: str = ""
    """Fingerprint of the configuration of the coming epoch, whose number is `begun`; "" while none is built."""
    cursor: str = ""
    """The last key that was swept."""
    swept: int = 0
    histories: int = 0
    """How many were there when the sweep began."""

    @property
    def kept(self) -> tuple[int, int]:
        """The epochs that are needed: the published one, and the coming one if there is any."""
        return self.published, self.begun if self.shape else self.published

    @property
    def progress(self) -> float:
        """The part of the histories that is swept; 1 while no epoch is built."""
        if not self.shape:
            return 1.0
        return min(self.swept, self.histories - 1) / self.histories if self.histories else 0.0


class Coming(NamedTuple):
    """The epoch that is being built: its sweep, and the steps that go on with it once it is published."""

    number: int
    sweep: Sweep
    steps: Steps
