"""Lengths of documents or chains: how they are spread, and what a window holds of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

WINDOWS = (4096, 8192, 16_384, 32_768, 65_536, 131_072)
"""Windows in tokens that models are extended to."""
ENOUGH = 0.9
"""Part of the tokens that a window is to hold in whole documents."""
MOST_OUTLIERS = 3
MIN_OTHERS = 9
"""Documents beside each outlier: of a few documents, none is unusual."""
PARTS = (50, 90, 99)
"""Per cent of the documents that a window is to hold."""


@dataclass(frozen=True)
class Bucket:
    """Lengths from `least` to `most`, both included."""

    least: int
    most: int
    count: int


@dataclass(frozen=True)
class Held:
    """What a window holds whole."""

    window: int
    count: float
    """Part of the documents, 0 to 1."""
    tokens: float
    """Part of the tokens that lies in those documents, 0 to 1."""


@dataclass(frozen=True)
class Lengths:
    """A summary of lengths."""

    count: int
    total: int
    longest: int
    histogram: tuple[Bucket, ...]
    """In powers of two, the empty ones between included."""
    holds: dict[int, int]
    """The smallest window that holds so many per cent of the documents whole."""
    windows: tuple[Held, ...]


def summarise(lengths: Sequence[int]) -> Lengths:
    """Return the summary of some lengths, at least one."""
    ordered = sorted(lengths)
    total = sum(ordered)
    return Lengths(
        len(ordered),
        total,
        ordered[-1],
        histogram(ordered),
        {part: ordered[-(-len(ordered) * part // 100) - 1] for part in PARTS},
        tuple(_held(ordered, window, total) for window in WINDOWS),
    )


def histogram(lengths: Sequence[int]) -> tuple[Bucket, ...]:
    """Return how many lengths there are from each power of two up to the next."""
    counts = Counter(length.bit_length() for length in lengths)
    bits = range(min(counts), max(counts) + 1) if counts else ()
    return tuple(Bucket((1 << bit) >> 1, (1 << bit) - 1, counts[bit]) for bit in bits)


def smallest_window(lengths: Lengths, part: float, otherwise: int) -> int:
    """Return the smallest of `WINDOWS` in which a part of the tokens lies in what it holds whole."""
    return next((held.window for held in lengths.windows if held.tokens >= part), otherwise)


def outliers(lengths: Sequence[int]) -> int:
    """Return how many documents, each too long for the window that suits the others, hold most tokens; mostly 0."""
    ordered, total = sorted(lengths), sum(lengths)
    for count in range(1, MOST_OUTLIERS + 1):
        others = ordered[:-count]
        if len(others) < count * MIN_OTHERS:
            break
        window = smallest_window(summarise(others), ENOUGH, otherwise=total)
        if sum(ordered[-count:]) > total / 2 and ordered[-count] > window:
            return count
    return 0


def examples(lengths: Sequence[int], window: int) -> int:
    """Return how many examples come of it where each length is cut into windows on its own."""
    return sum(-(-length // window) for length in lengths)


def joined_examples(lengths: Sequence[int], window: int) -> int:
    """Return how many examples come of it where lengths are joined in their order, and what does not fit goes on.

    A length that does not fit in what is left begins the next example; a longer one than the window fills several.
    """
    count = left = 0
    for length in lengths:
        if length <= left:
            left -= length
            continue
        more = -(-length // window)
        count += more
        left = more * window - length
    return count


def _held(ordered: Sequence[int], window: int, total: int) -> Held:
    whole = [length for length in ordered if length <= window]
    return Held(window, len(whole) / len(ordered), sum(whole) / total if total else 1.0)
