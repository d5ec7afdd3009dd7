"""Joining short chunks into full rows, over all of them at once."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence


def best_fit(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Return which chunks share a row, by best-fit decreasing: the longest first, each into the fullest row it fits.

    Rows name their chunks by number, in order; rows are ordered by their first. Nothing is cut or left out, and the
    outcome depends on nothing but the lengths. TRL packs by the same rule within batches of 1,000 rows.

    Args:
        lengths: Tokens of each chunk, none above `capacity`.
        capacity: Tokens of a row.

    Raises:
        ValueError: a chunk is longer than a row.
    """
    if lengths and max(lengths) > capacity:
        raise ValueError(f"a chunk of {max(lengths)} tokens fits no row of {capacity}")
    rows: list[list[int]] = []
    room: list[int] = []  # the different free spaces of rows, ascending
    by_room: dict[int, list[int]] = {}
    for chunk in sorted(range(len(lengths)), key=lambda number: (-lengths[number], number)):
        place = bisect_left(room, lengths[chunk])
        if place == len(room):
            free, row = capacity, len(rows)
            rows.append([])
        else:
            free = room[place]
            row = by_room[free].pop()
            if not by_room[free]:
                del by_room[free]
                del room[place]
        rows[row].append(chunk)
        left = free - lengths[chunk]
        if left not in by_room:
            by_room[left] = []
            insort(room, left)
        by_room[left].append(row)
    return sorted(sorted(row) for row in rows)
