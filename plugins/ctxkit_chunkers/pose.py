"""Positions that skip: rows of a short window whose positions lie anywhere in a long one."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ctxkit.spec import Chunk, EncodedDocument
    from ctxkit_chunkers.overlap import OverlapChunker


@dataclass(frozen=True, kw_only=True)
class PoseChunker:
    """Cut documents into windows, and each window into parts before which positions jump.

    Source: Zhu et al. 2023, PoSE (arXiv 2309.10400), section 3.2: the sizes of the parts are random, and the positions
    of part i are shifted by u_i, with 0 = u_0 <= u_1 <= ... drawn uniformly so that the last stays within the target.
    The contents of the parts follow each other in the document (the paper's v_i = v_0), so that every token is trained
    once and none is lost; the paper finds no difference to other choices. A row has the same jumps in every epoch.
    A row is cut anywhere, where the authors' script cuts it in its first half.
    """

    windows: OverlapChunker
    """Cuts the documents."""
    target_length: int
    """Tokens that positions reach at most."""
    parts: int = 2
    """Into how many parts a window is cut, the paper's N."""
    seed: int = 0

    def __call__(self, documents: Iterable[EncodedDocument]) -> Iterator[Chunk]:
        """Yield the windows of each document in order, each with its jumps."""
        generator = random.Random(f"pose {self.seed}")
        for chunk in self.windows(documents):
            yield replace(chunk, skips=self._skips(generator, len(chunk.input_ids)))

    def _skips(self, generator: random.Random, length: int) -> tuple[tuple[int, int], ...]:
        """Return where positions jump in a window of so many tokens, and how far."""
        cuts = sorted(generator.sample(range(1, length), min(self.parts, length) - 1))
        shifts = sorted(generator.randint(0, self.target_length - length) for _ in cuts)
        jumps = (after - before for before, after in zip([0, *shifts], shifts, strict=False))
        return tuple((cut, jump) for cut, jump in zip(cuts, jumps, strict=True) if jump)
