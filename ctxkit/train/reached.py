"""What the recipe asks of each source and of each class of length, and what came of it, in trained tokens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ctxkit.recipe import DataSection
from ctxkit.train.chunks import SourceChunks
from ctxkit.train.mixing import Mix, band_name, band_of, band_shares, shares

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
        self._goal = data.max_tokens or mix.total

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
        asked = self._data.sources[index].max_tokens if share is None else self._asked([share], band_shares(self._data))
        tokens = self._by_source[index]
        why = self._why_in_order(index, asked, tokens) if share is None else self._why(0, index, asked, tokens)
        return Part(self._names[index], asked, share, tokens, self._part(tokens), why)

    def _band(self, band: int) -> Part:
        share = band_shares(self._data)[band]
        asked, tokens = self._asked(shares(self._data) or [1.0], [share]), self._by_band[band]
        why = self._why(1, band, asked, tokens)
        return Part(band_name(self._data, band), asked, share, tokens, self._part(tokens), why)

    def _asked(self, weights: Sequence[float], bands: Sequence[float]) -> int:
        """Return the tokens asked of cells, each rounded down as the mix does."""
        return sum(int(self._goal * (weight * band)) for weight in weights for band in bands)

    def _part(self, tokens: int) -> float:
        return tokens / self._total if self._total else 0.0

    def _why_all(self) -> str:
        asked = self._data.max_tokens
        if asked is None or self._total == asked:
            return ""
        if self._total > asked:
            return WHOLE
        return self._scarcity() if self._mix.scarcest else "there is no more"

    def _why(self, axis: int, place: int, asked: int | None, tokens: int) -> str:
        """Explain a part that has a share: of the sources (axis 0) or of the classes of length (axis 1)."""
        scarcest = self._mix.scarcest
        if scarcest and scarcest[axis] == place:
            return self._scarcity()
        if asked is not None and tokens < asked:
            return f"in proportion, up to a whole chunk: {self._scarcity()}" if scarcest else "there is no more"
        return WHOLE if asked is not None and tokens > asked else ""

    def _why_in_order(self, index: int, asked: int | None, tokens: int) -> str:
        """Explain a source without a weight: it is used up in the order of the recipe."""
        if asked is not None and tokens > asked:
            return WHOLE
        if tokens == asked:
            return ""
        chunks = self._sources[index]
        if chunks.complete and tokens == chunks.trained:
            return "there is no more" if asked is not None else ""
        return "the mix of lengths takes no more" if self._data.length_bands else FILLED

    def _scarcity(self) -> str:
        """Say which part of the mix there is least of: `git has no more`."""
        source, band = self._mix.scarcest or (0, 0)
        weighted = bool(shares(self._data))
        owners = [source] if weighted else range(len(self._sources))
        of = f" {band_name(self._data, band)}" if self._data.length_bands else ""
        if all(self._sources[owner].complete for owner in owners):
            return f"{self._names[source] if weighted else 'there'} {'has' if weighted else 'are'} no more{of}"
        return f"max_tokens of {self._names[source] if weighted else 'a source'} allows no more{of}"
