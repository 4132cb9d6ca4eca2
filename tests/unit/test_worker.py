"""A worker goes on with a unit whatever ends its life, until it is told to end."""

from __future__ import annotations

import asyncio

import pytest

from agents.kafka.worker import Worker


class GivenUp:
    """A unit whose first life ends as where a broker goes away: the client cancels a future that it waits for."""

    name, trouble, lives = "track-0", "", 0

    async def live(self, do: object) -> None:
        self.lives += 1
        waits = asyncio.get_running_loop().create_future()
        if self.lives == 1:
            waits.cancel()
        await waits


async def test_what_the_client_cancels_does_not_end_a_unit_and_the_worker_does() -> None:
    unit = GivenUp()
    task = asyncio.create_task(object.__new__(Worker)._own(unit))  # type: ignore[arg-type]
    while unit.lives < 2:
        assert not task.done()
        await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
