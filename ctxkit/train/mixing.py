"""Which chunks are used: so many tokens of each source and of each class of length as the recipe asks for."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ctxkit.errors import DataError
from ctxkit.recipe import DataSection
from ctxkit.train.chunks import SourceChunks

Chosen = tuple[int, int]
"""A chunk: which source, and which chunk of it."""


@dataclass(frozen=True)
class Mix:
    """The chunks to train on."""

    chosen: list[Chosen]
    """In the order of reading."""
    total: float
    """Trained tokens that the mix is made for; the last chunk of each part may go beyond."""
    scarcest: tuple[int, int] | None = None
    """The part that there is least of, which the others are kept in proportion to: a source (0 for all of them where
    they have no weights) and a class of length. None where `max_tokens` decides, or nothing is mixed."""


def shares(data: DataSection) -> list[float]:
    """Return each source's share of the trained tokens by its weight, or nothing where there are no weights."""
    weights = [source.weight for source in data.sources if source.weight is not None]
    return [weight / sum(weights) for weight in weights] if len(weights) == len(data.sources) else []


def band_shares(data: DataSection) -> list[float]:
    """Return the share of each class of length; one share of 1 where there are no classes."""
    parts = [band.share for band in data.length_bands]
    return [part / sum(parts) for part in parts] or [1.0]


def band_of(data: DataSection, tokens: int) -> int:
    """Return the class of length of a document."""
    return max(bisect_right([band.least for band in data.length_bands], tokens) - 1, 0)


def limit(data: DataSection, index: int, left: int | None) -> int | None:
    """Return the most tokens that a source can be asked to train, or None for all it has.

    Args:
        data: The section.
        index: Number of the source.
        left: Tokens of `max_tokens` that the sources before have left.
    """
    own = data.sources[index].max_tokens
    parts = shares(data)
    whole = int(data.max_tokens * parts[index]) if parts and data.max_tokens else left
    return min(value for value in (own, whole) if value is not None) if (own, whole) != (None, None) else None


class Fill:
    """Tell when a budget is full: in all, and in every class of length."""

    def __init__(self, data: DataSection, budget: int | None) -> None:
        """Start with nothing; a budget of None is never full."""
        self._data, self._budget = data, budget
        self._trained = Counter[int]()

    def __call__(self, tokens: int, trained: int) -> bool:
        """Count a chunk of a document of so many tokens that trains so many; return whether that is enough."""
        self._trained[band_of(self._data, tokens)] += trained
        budget = self._budget
        if budget is None or self._trained.total() < budget:
            return False
        return all(self._trained[band] >= int(budget * share) for band, share in enumerate(band_shares(self._data)))


def choose(data: DataSection, sources: Sequence[SourceChunks]) -> Mix:
    """Return the chunks to train on.

    With weights or length bands the mix holds up to one chunk, and it is as large as the scarcest part allows, or
    `max_tokens`. Without either, sources are used up in order until `max_tokens`.

    Raises:
        DataError: a part of the mix has no chunk.
    """
    cells = _cells(data, sources)
    parts = _parts(data)
    if len(parts) == 1:
        (members,) = cells.values() if cells else ([],)
        chosen = _within(members, sources, data.max_tokens)
        return Mix(chosen, min(_tokens(chosen, sources), data.max_tokens or math.inf))
    for cell in parts:
        if cell not in cells:
            raise _empty(data, cell)
    totals = {cell: _tokens(cells[cell], sources) / part for cell, part in parts.items()}
    scarcest = min(totals, key=totals.__getitem__)
    total = min(totals[scarcest], data.max_tokens or math.inf)
    chosen = [chunk for cell, part in parts.items() for chunk in _within(cells[cell], sources, int(total * part))]
    return Mix(sorted(chosen), total, scarcest if total < (data.max_tokens or math.inf) else None)


def band_name(data: DataSection, band: int) -> str:
    """Return a class of length in words: `documents of 16,384 or more tokens`."""
    upper = [f" to {following.least - 1:,}" for following in data.length_bands[1:]] + [" or more"]
    return f"documents of {data.length_bands[band].least:,}{upper[band]} tokens"


def _empty(data: DataSection, cell: tuple[int, int]) -> DataError:
    """Return the error for a part of the mix without a chunk: its source, where there are weights, and its lengths."""
    source, band = cell
    said = []
    if shares(data):
        said.append(f"data.sources.{source} (kind {data.sources[source].kind})")
    if data.length_bands:
        said.append(band_name(data, band))
    return DataError(f"no training example comes from {', '.join(said)}", "the mix needs some; leave that part out")


def _parts(data: DataSection) -> dict[tuple[int, int], float]:
    """Return the share of each cell; a cell is a source (0 for all without weights) and a class of length."""
    bands = band_shares(data)
    return {
        (source, band): share * part
        for source, share in enumerate(shares(data) or [1.0])
        for band, part in enumerate(bands)
    }


def _cells(data: DataSection, sources: Sequence[SourceChunks]) -> dict[tuple[int, int], list[Chosen]]:
    cells: dict[tuple[int, int], list[Chosen]] = {}
    weighted = bool(shares(data))
    for chunks, options in zip(sources, data.sources, strict=True):
        own: dict[int, list[Chosen]] = {}
        for number in range(len(chunks)):
            own.setdefault(band_of(data, chunks.bands[number]), []).append((chunks.source, number))
        for band, members in own.items():
            # A source's budget holds for each of its classes of length, or the first documents would use it up.
            budget = options.max_tokens and int(options.max_tokens * band_shares(data)[band])
            cells.setdefault((chunks.source if weighted else 0, band), []).extend(_within(members, sources, budget))
    return cells


def _trained(chunk: Chosen, sources: Sequence[SourceChunks]) -> int:
    chunks = sources[chunk[0]]
    return chunks.lengths[chunk[1]] - chunks.masked_tokens[chunk[1]]


def _tokens(members: Sequence[Chosen], sources: Sequence[SourceChunks]) -> int:
    return sum(_trained(chunk, sources) for chunk in members)


def _within(members: list[Chosen], sources: Sequence[SourceChunks], budget: int | None) -> list[Chosen]:
    """Return the first members that fit a budget; the one that crosses it counts, so that no part is left out."""
    if budget is None:
        return members
    total = 0
    for number, chunk in enumerate(members):
        if total >= budget:
            return members[:number]
        total += _trained(chunk, sources)
    return members
