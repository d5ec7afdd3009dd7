"""Set lengths of documents and of examples side by side, in bins of powers of two."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ctxkit_report.visible import label

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ctxkit_report.prepared import Bin, Prepared

_MOST_BINS = 40
"""The last bin begins at 2^39 tokens."""


@dataclass(frozen=True)
class Column:
    """One bar: how many, and how many tokens in them."""

    count: int = 0
    tokens: int = 0


@dataclass(frozen=True)
class Histogram:
    """Lengths of one kind of thing; a column for each bin of the axis."""

    title: str
    unit: str
    """What is counted, in the plural."""
    columns: tuple[Column, ...]

    @property
    def total(self) -> Column:
        """Everything together."""
        return Column(sum(item.count for item in self.columns), sum(item.tokens for item in self.columns))


@dataclass(frozen=True)
class Axis:
    """The bins that all histograms share: bin `i` begins at `2 ** (first + i)` tokens."""

    first: int
    count: int

    def least(self, place: int) -> int:
        """Return the least tokens of a bin."""
        return int(2 ** (self.first + place))

    def range(self, place: int) -> str:
        """Write a bin: `1,024-2,047`."""
        least = self.least(place)
        return f"{least:,}-{2 * least - 1:,}" if least > 1 else "1"


def histograms(item: Prepared) -> tuple[Axis, tuple[Histogram, ...]]:
    """Return the shared axis, and the documents of each source, then the rows of each split; without empty ones."""
    named = [
        (f"Documents of {label(source.label)}" if len(item.sources) > 1 else "Documents", "documents", source.lengths)
        for source in item.sources
    ]
    splits = ((item.train, "Training rows", "rows"), (item.evaluation, "Evaluation rows", "evaluation rows"))
    named += [(title, unit, split.lengths) for split, title, unit in splits if split]
    filled = [entry for entry in named if entry[2]]
    axis = _axis([each for _, _, bins in filled for each in bins])
    return axis, tuple(Histogram(title, unit, _columns(bins, axis)) for title, unit, bins in filled)


def pooled(found: Sequence[Histogram], unit: str, title: str) -> Histogram:
    """Return all histograms of a unit as one."""
    columns = zip(*(item.columns for item in found if item.unit == unit), strict=True)
    together = (Column(sum(one.count for one in bars), sum(one.tokens for one in bars)) for bars in columns)
    return Histogram(title, unit, tuple(together))


def _axis(bins: Iterable[Bin]) -> Axis:
    places = [_place(item) for item in bins]
    first = min(places, default=0)
    return Axis(first, max(places, default=-1) - first + 1)


def _columns(bins: Iterable[Bin], axis: Axis) -> tuple[Column, ...]:
    columns = [Column()] * axis.count
    for item in bins:
        place = _place(item) - axis.first
        before = columns[place]
        columns[place] = Column(before.count + item.count, before.tokens + item.tokens)
    return tuple(columns)


def _place(item: Bin) -> int:
    return min(max(item.least.bit_length() - 1, 0), _MOST_BINS - 1)
