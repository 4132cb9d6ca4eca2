"""Which worker gets which partitions: partitions of one number that are read together stay together, few move.

The events and the links of a partition are one unit, and the changes of a partition are another. Each unit goes to the
worker with the highest hash of both names that has room (rendezvous hashing), so that a worker that comes or goes moves
little but its own share, whatever happened before. Each worker is also told which units it would inherit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from hashlib import blake2b
from typing import Any

from aiokafka.coordinator.assignors.abstract import AbstractPartitionAssignor
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata


def units(partitions: Mapping[str, int]) -> list[tuple[str, list[tuple[str, int]]]]:
    """(name, topic partitions) of what is owned together: topics ending in `.links` go with their `.events`."""
    rows: dict[str, list[tuple[str, int]]] = {}
    for topic in sorted(partitions):
        step = "tally" if topic.endswith(".changes") else "track"
        for number in range(partitions[topic]):
            rows.setdefault(f"{step}-{number}", []).append((topic, number))
    return sorted(rows.items())


def share(names: Iterable[str], workers: Iterable[str]) -> dict[str, str]:
    """Unit → worker; each worker has its share of each step, rounded down or up.

    >>> share(["track-0", "track-1"], ["a", "b"])
    {'track-0': 'b', 'track-1': 'a'}
    """
    everybody = sorted(workers)
    given: dict[str, str] = {}
    by_step: dict[str, list[str]] = {}
    for name in sorted(names):
        by_step.setdefault(name.partition("-")[0], []).append(name)
    for step, units_of in by_step.items():
        least, rest = divmod(len(units_of), len(everybody))
        room = dict.fromkeys(everybody, least)
        # The strongest claims are met first, so that a newcomer takes what it claims most and leaves the rest alone.
        claims = sorted((_claim(step, unit, worker), unit, worker) for unit in units_of for worker in everybody)
        for _, unit, worker in reversed(claims):
            if unit not in given and (room[worker] > 0 or (rest and not room[worker])):
                given[unit] = worker
                rest -= not room[worker]
                room[worker] -= 1
    return dict(sorted(given.items()))


def heirs(names: Iterable[str], workers: Iterable[str]) -> dict[str, str]:
    """Unit → the worker that would have it, were its owner gone; a lone worker has no heir.

    >>> heirs(["track-0", "track-1"], ["a", "b"])
    {'track-0': 'a', 'track-1': 'b'}
    """
    names, everybody = list(names), set(workers)
    owners = share(names, everybody)
    without = {worker: share(names, everybody - {worker}) for worker in everybody if len(everybody) > 1}
    return {unit: without[owner][unit] for unit, owner in owners.items() if owner in without}


def _claim(step: str, unit: str, worker: str) -> bytes:
    return blake2b(f"{step} {unit} {worker}".encode(), digest_size=8).digest()


def assignor_of(worker: str, inherits: Callable[[list[str]], None]) -> type[AbstractPartitionAssignor]:
    """The assignor of a worker: its name, which stays the same over restarts, goes with it to the leader.

    `inherits` is called with the units that the worker would inherit, before it is told what it owns.
    """

    class Rendezvous(AbstractPartitionAssignor):  # type: ignore[misc] # the library has no types
        name = "flowmetrics-rendezvous"
        version = 0

        @classmethod
        def assign(cls, cluster: Any, members: Mapping[str, Any]) -> dict[str, ConsumerProtocolMemberAssignment]:
            topics = {topic for member in members.values() for topic in member.subscription}
            counts = {topic: len(cluster.partitions_for_topic(topic) or ()) for topic in topics}
            named = {_name(member_id, member): member_id for member_id, member in sorted(members.items())}
            owned = dict(units(counts))
            mine: dict[str, dict[str, list[int]]] = {member_id: {} for member_id in members}
            for unit, worker in share(owned, named).items():
                for topic, number in owned[unit]:
                    mine[named[worker]].setdefault(topic, []).append(number)
            inherited: dict[str, list[str]] = {member_id: [] for member_id in members}
            for unit, worker in heirs(owned, named).items():
                inherited[named[worker]].append(unit)
            return {
                member_id: ConsumerProtocolMemberAssignment(
                    cls.version, sorted(topics.items()), " ".join(inherited[member_id]).encode()
                )
                for member_id, topics in mine.items()
            }

        @classmethod
        def metadata(cls, topics: Iterable[str]) -> ConsumerProtocolMemberMetadata:
            return ConsumerProtocolMemberMetadata(cls.version, list(topics), worker.encode())

        @classmethod
        def on_assignment(cls, assignment: ConsumerProtocolMemberAssignment) -> None:
            inherits(assignment.user_data.decode().split())

    return Rendezvous


def _name(member_id: str, member: Any) -> str:
    told: bytes = member.user_data or b""
    return told.decode("utf-8", "replace") or member_id
