"""Which chunks are used: so many tokens of each source and of each class of length as the recipe asks for."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from ctxkit.errors import DataError
from ctxkit.recipe import DataSection
from ctxkit.train.chunks import SourceChunks

T = TypeVar("T", bound=Hashable)
Cell = tuple[int, int]
"""A part of the mix: a source, and a class of length."""
Chosen = tuple[int, int]
"""A chunk: which source, and which chunk of it."""
NOISE: Final = 1e-6
"""Tokens by which a product with a share may be off."""


@dataclass(frozen=True)
class Supply:
    """What one source may give in one class of length."""

    chunks: list[Chosen]
    """In the order of reading."""
    tokens: int
    """That they train."""
    capped: bool
    """Whether it may give no more because of its own `max_tokens`."""


@dataclass(frozen=True)
class Mix:
    """The chunks to train on."""

    chosen: list[Chosen]
    """In the order of reading."""
    total: float
    """Trained tokens that the mix is made for; the last chunk of each part may go beyond."""
    supplies: Mapping[Cell, Supply]
    """What each source may give in each class of length; none where it has no chunk."""
    scarcest: Cell | None = None
    """The part that there is least of, which the others are kept in proportion to: a source (0 for all of them where
    they have no weights) and a class of length. None where `data.max_tokens` decides."""


def shares(data: DataSection) -> list[float]:
    """Return each source's share of the trained tokens by its weight, or nothing where there are no weights."""
    weights = [source.weight for source in data.sources if source.weight is not None]
    return [weight / sum(weights) for weight in weights] if len(weights) == len(data.sources) else []


def band_shares(data: DataSection) -> list[float]:
    """Return the share of each class of length; one share of 1 where there are no classes."""
    parts = [band.share for band in data.length_bands]
    return [part / sum(parts) for part in parts] or [1.0]


def quotas(total: float, parts: Mapping[T, float]) -> dict[T, int]:
    """Return the tokens that a total asks of each part by its share: whole, and together the total rounded down."""
    exact = {part: total * share for part, share in parts.items()}
    made = {part: math.floor(tokens) for part, tokens in exact.items()}
    spare = math.floor(total + NOISE) - sum(made.values())
    for part in sorted(parts, key=lambda part: made[part] - exact[part])[:spare]:
        made[part] += 1
    return made


def parts_of(data: DataSection) -> dict[Cell, float]:
    """Return the share of each part of the mix; its source is 0, for all of them, where there are no weights."""
    bands = band_shares(data)
    return {
        (source, band): share * part
        for source, share in enumerate(shares(data) or [1.0])
        for band, part in enumerate(bands)
    }


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
    whole = _most(data.max_tokens, parts[index]) if parts and data.max_tokens else left
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
        return all(self._trained[band] >= _most(budget, share) for band, share in enumerate(band_shares(self._data)))


def choose(data: DataSection, sources: Sequence[SourceChunks]) -> Mix:
    """Return the chunks to train on.

    With weights or length bands the mix holds up to one chunk, and it is as large as the scarcest part allows, or
    `max_tokens`. Without either, sources are used up in order until `max_tokens`.

    Raises:
        DataError: a part of the mix has no chunk.
    """
    supplies, parts = _supplies(data, sources), parts_of(data)
    cells = _cells(data, supplies)
    for cell in parts:
        if cell not in cells and len(parts) > 1:
            raise _empty(data, cell)
    tokens = {cell: _tokens(cells.get(cell, []), sources) for cell in parts}
    total, scarcest = _size(data.max_tokens, parts, tokens)
    asked = quotas(total, parts)
    chosen = [chunk for cell, members in cells.items() for chunk in _within(members, sources, asked[cell])]
    return Mix(sorted(chosen), total, supplies, scarcest)


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


def _size(goal: int | None, parts: Mapping[Cell, float], tokens: Mapping[Cell, int]) -> tuple[float, Cell | None]:
    """Return the tokens of the mix, and the part that there is least of where that decides."""
    asked = None if goal is None else quotas(goal, parts)
    short = [cell for cell in parts if asked is None or tokens[cell] < asked[cell]]
    if goal is not None and not short:
        return goal, None
    totals = {cell: tokens[cell] / parts[cell] for cell in short}
    scarcest = min(totals, key=totals.__getitem__)
    return totals[scarcest], scarcest


def _supplies(data: DataSection, sources: Sequence[SourceChunks]) -> dict[Cell, Supply]:
    made: dict[Cell, Supply] = {}
    for chunks, options in zip(sources, data.sources, strict=True):
        own: dict[int, list[Chosen]] = {}
        for number in range(len(chunks)):
            own.setdefault(band_of(data, chunks.bands[number]), []).append((chunks.source, number))
        # A source's budget holds for each of its classes of length, or the first documents would use it up.
        bands = dict(enumerate(band_shares(data)))
        caps = {} if options.max_tokens is None else quotas(options.max_tokens, bands)
        for band, members in own.items():
            allowed = _within(members, sources, caps.get(band))
            tokens = _tokens(allowed, sources)
            made[chunks.source, band] = Supply(allowed, tokens, band in caps and tokens >= caps[band])
    return made


def _cells(data: DataSection, supplies: Mapping[Cell, Supply]) -> dict[Cell, list[Chosen]]:
    """Return the chunks of each part of the mix, in the order of reading."""
    cells: dict[Cell, list[Chosen]] = {}
    weighted = bool(shares(data))
    for (source, band), supply in supplies.items():
        cells.setdefault((source if weighted else 0, band), []).extend(supply.chunks)
    return cells


def _most(total: int, share: float) -> int:
    """Return the most tokens that `quotas` can ask of a share."""
    return math.ceil(total * share - NOISE)


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
