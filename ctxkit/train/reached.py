"""What the recipe asks of each source and of each class of length, and what came of it, in trained tokens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ctxkit.recipe import DataSection
from ctxkit.train.chunks import SourceChunks
from ctxkit.train.mixing import Mix, band_name, band_of, band_shares, parts_of, quotas, shares

WHOLE = "the last chunk is used whole"
FILLED = "data.max_tokens is reached"


@dataclass(frozen=True)
class Part:
    """A source, or a class of length, in the mix."""

    name: str
    asked_tokens: int | None
    """What the recipe asks for by weight or share, or allows by `max_tokens`; None for all there is."""
    asked_share: float | None
    """Of all trained tokens; None where no weight or share is stated."""
    tokens: int
    """What is trained."""
    share: float
    """Of all trained tokens."""
    why: str
    """Why that is not what was asked, or why there is not more of it; empty where nobody would ask."""


def reached(data: DataSection, sources: Sequence[SourceChunks], names: Sequence[str], mix: Mix) -> dict[str, Any]:
    """Return the account of the mix as the manifest holds it: all together, each source, each class of length.

    Args:
        data: The section.
        sources: The chunks of each source.
        names: What each source is called.
        mix: Which of the chunks are trained.
    """
    return _Account(data, sources, names, mix).written()


class _Account:
    """The tokens of the chosen chunks, by source and by class of length."""

    def __init__(self, data: DataSection, sources: Sequence[SourceChunks], names: Sequence[str], mix: Mix) -> None:
        self._data, self._sources, self._names, self._mix = data, sources, names, mix
        self._by_source, self._by_band = Counter[int](), Counter[int]()
        for source, chunk in mix.chosen:
            chunks = sources[source]
            trained = chunks.lengths[chunk] - chunks.masked_tokens[chunk]
            self._by_source[source] += trained
            self._by_band[band_of(data, chunks.bands[chunk])] += trained
        self._total = self._by_source.total()
        self._quotas = quotas(data.max_tokens or mix.total, parts_of(data))

    def written(self) -> dict[str, Any]:
        """Return everything as plain values."""
        bands = range(len(self._data.length_bands))
        return {
            "asked_tokens": self._data.max_tokens,
            "tokens": self._total,
            "why": self._why_all(),
            "sources": [asdict(self._source(index)) for index in range(len(self._sources))],
            "length_bands": [asdict(self._band(band)) for band in bands],
        }

    def _source(self, index: int) -> Part:
        weights = shares(self._data)
        share = weights[index] if weights else None
        asked = self._data.sources[index].max_tokens if share is None else self._asked(0, index)
        tokens = self._by_source[index]
        why = self._why_in_order(index, asked, tokens) if share is None else self._why(0, index, asked, tokens)
        return Part(self._names[index], asked, share, tokens, self._part(tokens), why)

    def _band(self, band: int) -> Part:
        share = band_shares(self._data)[band]
        asked, tokens = self._asked(1, band), self._by_band[band]
        why = self._why(1, band, asked, tokens)
        return Part(band_name(self._data, band), asked, share, tokens, self._part(tokens), why)

    def _asked(self, axis: int, place: int) -> int:
        """Return the tokens asked of a source (axis 0) or of a class of length (axis 1)."""
        return sum(tokens for cell, tokens in self._quotas.items() if cell[axis] == place)

    def _part(self, tokens: int) -> float:
        return tokens / self._total if self._total else 0.0

    def _why_all(self) -> str:
        asked = self._data.max_tokens
        if asked is None or self._total == asked:
            return ""
        if self._total > asked:
            return WHOLE
        return self._scarcity()

    def _why(self, axis: int, place: int, asked: int | None, tokens: int) -> str:
        """Explain a part that has a share: of the sources (axis 0) or of the classes of length (axis 1)."""
        scarcest = self._mix.scarcest
        if scarcest and scarcest[axis] == place:
            return self._scarcity()
        if asked is not None and tokens < asked:
            return f"in proportion, up to a whole chunk: {self._scarcity()}"
        return WHOLE if asked is not None and tokens > asked else ""

    def _why_in_order(self, index: int, asked: int | None, tokens: int) -> str:
        """Explain a source without a weight: it is used up in the order of the recipe."""
        if asked is not None and tokens > asked:
            return WHOLE
        if tokens == asked:
            return ""
        own = [supply for (source, _), supply in self._mix.supplies.items() if source == index]
        if self._sources[index].complete and tokens == sum(supply.tokens for supply in own):
            return self._rest(index) if asked is not None else ""
        return "the mix of lengths takes no more" if self._mix.scarcest else FILLED

    def _rest(self, index: int) -> str:
        """Say of which documents a source that gave all has fewer than its `max_tokens` allows."""
        if not self._data.length_bands:
            return "there is no more"
        few = [band for band in range(len(self._data.length_bands)) if not self._capped(index, band)]
        return f"there are no more {' and '.join(band_name(self._data, band) for band in few)}"

    def _scarcity(self) -> str:
        """Say which part of the mix there is least of, and whose `max_tokens` keeps it so: `git has no more`."""
        source, band = self._mix.scarcest or (0, 0)
        owners = [source] if shares(self._data) else range(len(self._sources))
        of = f" {band_name(self._data, band)}" if self._data.length_bands else ""
        capped = [owner for owner in owners if self._capped(owner, band)]
        if not capped:
            has = f"{self._names[source]} has" if shares(self._data) else "there are" if of else "there is"
            return f"{has} no more{of}"
        limits = " and ".join(self._names[owner] for owner in capped)
        others = ", and the others have no more" if len(capped) < len(owners) else ""
        return f"max_tokens of {limits} allows no more{of}{others}"

    def _capped(self, source: int, band: int) -> bool:
        supply = self._mix.supplies.get((source, band))
        return supply is not None and supply.capped
