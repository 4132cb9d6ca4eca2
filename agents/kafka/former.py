"""The former self of a worker: after a SIGKILL it is a member of the group until its session ends, and owns partitions.

Whoever starts over its folder, which one process at a time can hold, knows that it is gone, and takes it out of the
group, so that a restart does not wait for a session to end.
"""

from __future__ import annotations

import logging
import socket
from contextlib import AsyncExitStack
from pathlib import Path
from uuid import uuid4

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import GroupCoordinatorNotAvailableError, KafkaError
from aiokafka.protocol.group import LeaveGroupRequest

from agents.kafka.connection import Connection
from flowmetrics.errors import OperationError

log = logging.getLogger(__name__)


def name_of(folder: Path) -> str:
    """The name of the worker over a store folder. It stays the same over restarts, and is no other's: cloned machines,
    and pods on the network of their host, share a host name and have the same folder. Raises OperationError."""
    path = folder / "worker"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        told = path.read_text(errors="replace") if path.exists() else ""
        if not told:
            told = uuid4().hex
            path.write_text(told)
    except OSError as error:
        raise OperationError(
            f"{path}: {error.strerror}; make room on its disk, or name a directory that can be written in kafka.store"
        ) from None
    return f"{socket.gethostname()}-{told}"


async def leave_for_former(connection: Connection, group: str, name: str) -> None:
    """Take members whose client is called `name` out of a group. What fails is only told: their session ends anyway."""
    ours = connection.client(name)
    try:
        async with AsyncExitStack() as stack:
            admin = AIOKafkaAdminClient(**ours)
            await admin.start()
            stack.push_async_callback(admin.close)
            node = await admin.find_coordinator(group)
            (answer,) = await admin.describe_consumer_groups([group], node)
            members = [member for described in answer.groups for member in described[5]]
            former = [member_id for member_id, client_id, *_ in members if client_id == ours["client_id"]]
            if former:
                client = AIOKafkaClient(**ours)
                await client.bootstrap()
                stack.push_async_callback(client.close)
                for member_id in former:
                    await client.send(node, LeaveGroupRequest(group, member_id))
                log.info("took our former self out of the group")
    except GroupCoordinatorNotAvailableError:
        log.debug("there is no group yet")
    except (KafkaError, OSError) as error:
        log.warning("our former self may stay in the group until its session ends: %r", error)
