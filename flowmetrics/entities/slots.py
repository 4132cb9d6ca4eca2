"""When somebody was active, small and exact: at most two slots for each UTC day, the first and the last.

A slot is an even number for an instant on an edge of the grain, and an odd number for the open interval between two
edges, so that both the pane that holds the activity and the local day it belongs to can be told from it:

    edges        0       1       2       3            grain 5 min: edge k is the instant 5k min
    slots        0   1   2   3   4   5   6
    pane of      0   1   1   2   2   3   3            pane p is (p - 1, p]
    day begins at an edge, so an edge belongs to the day it begins

A day of any time zone is made of a tail of one UTC day and a head of the next, so the first and the last activity of
each UTC day tell of every local day whether somebody was active in it. The time zone can thus change afterwards.
"""

from __future__ import annotations

from bisect import bisect_left

from flowmetrics.instants import DAY_US


def slot_of(at: int, grain_us: int) -> int:
    """The slot of an instant.

    >>> [slot_of(at, 10) for at in (0, 3, 10, 11)]
    [0, 1, 2, 3]
    """
    return at // grain_us - -at // grain_us


def slot_end(slot: int, grain_us: int) -> int:
    """The first edge at or after the activity: an instant in the same pane."""
    return (slot + 1) // 2 * grain_us


def slot_begin(slot: int, grain_us: int) -> int:
    """The last edge at or before the activity: an instant of the same local day."""
    return slot // 2 * grain_us


def insert_slot(slots: list[int], slot: int, grain_us: int) -> bool:
    """Join a slot to a sorted list that keeps the first and the last slot of each UTC day; whether it changed.

    >>> slots = []
    >>> [insert_slot(slots, slot, DAY_US // 4) for slot in (3, 1, 2, 3, 8)], slots
    ([True, True, False, False, True], [1, 3, 8])
    """
    if not slots or slot > slots[-1]:
        per_day = 2 * DAY_US // grain_us
        if len(slots) > 1 and slots[-2] // per_day == slot // per_day:
            slots[-1] = slot
        else:
            slots.append(slot)
        return True
    index = bisect_left(slots, slot)
    if slots[index] == slot:
        return False
    per_day = 2 * DAY_US // grain_us
    day = slot // per_day
    before = index > 0 and slots[index - 1] // per_day == day
    after = slots[index] // per_day == day
    if before and after:
        return False
    if after and index + 1 < len(slots) and slots[index + 1] // per_day == day:
        slots[index] = slot
    elif before and index > 1 and slots[index - 2] // per_day == day:
        slots[index - 1] = slot
    else:
        slots.insert(index, slot)
    return True
