"""Which worker gets which partitions."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from agents.kafka.assignor import heirs, share

PARTITIONS = st.integers(1, 24)
WORKERS = st.sets(st.text("abcdef", min_size=1, max_size=4), min_size=1, max_size=9)


def names(partitions: int) -> list[str]:
    return [f"{step}-{number}" for step in ("tally", "track") for number in range(partitions)]


@given(PARTITIONS, WORKERS)
def test_every_worker_has_its_share_of_each_step_rounded_down_or_up(partitions: int, workers: set[str]) -> None:
    """Else a worker could be left with nothing beside others that have two partitions each, and never be ready."""
    given_to = share(names(partitions), workers)
    assert given_to.keys() == set(names(partitions))
    for step in ("tally", "track"):
        counts = Counter(worker for unit, worker in given_to.items() if unit.startswith(step))
        least, rest = divmod(partitions, len(workers))
        assert sorted((counts[worker] for worker in workers), reverse=True) == [
            least + (place < rest) for place in range(len(workers))
        ]


@given(PARTITIONS, WORKERS)
def test_what_a_worker_leaves_goes_to_its_heirs(partitions: int, workers: set[str]) -> None:
    before, inherited = share(names(partitions), workers), heirs(names(partitions), workers)
    for gone in workers if len(workers) > 1 else ():
        after = share(names(partitions), workers - {gone})
        assert all(inherited[unit] == after[unit] for unit, owner in before.items() if owner == gone)


def test_a_worker_that_comes_moves_little_but_its_own_share() -> None:
    """Of 24 partitions over 6 workers a newcomer takes 3 or 4 of each step; what moves besides is less than that."""
    moved = []
    for number in range(50):
        workers = {f"{number}-{n}" for n in range(6)}
        before, after = share(names(24), workers), share(names(24), workers | {"new"})
        moved.append(sum(before[unit] != after[unit] and after[unit] != "new" for unit in before))
    assert sum(moved) / len(moved) < 7
