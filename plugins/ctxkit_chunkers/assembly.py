"""A chunk put together from inserted tokens and pieces of several documents."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ctxkit.spec import Chunk, EncodedDocument, Span

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass
class Draft:
    """A chunk in the making, written from front to end."""

    length: int = 0
    """Tokens so far."""
    _pieces: list[NDArray[np.int32]] = field(default_factory=list)
    _spans: list[Span] = field(default_factory=list)
    _masked: list[tuple[int, int]] = field(default_factory=list)

    def insert(self, input_ids: NDArray[np.int32], *, masked: bool = False) -> None:
        """Append tokens that are of no document."""
        self._append(input_ids, masked=masked)

    def copy(self, document: EncodedDocument, start: int, end: int, *, masked: bool = False) -> None:
        """Append tokens `start` to `end` (exclusive) of a document."""
        self._spans.append(Span(document.document.id, start, end, self.length))
        self._append(document.input_ids[start:end], masked=masked)

    def finish(self, reach: int = 0) -> Chunk:
        """Return the chunk; what is masked at its very front becomes its context."""
        masked = list(self._masked)
        context = masked.pop(0)[1] if masked and masked[0][0] == 0 else 0
        return Chunk(np.concatenate(self._pieces), tuple(self._spans), context, tuple(masked), reach)

    def _append(self, input_ids: NDArray[np.int32], *, masked: bool) -> None:
        start, end = self.length, self.length + len(input_ids)
        if masked and end > start:
            touches = bool(self._masked) and self._masked[-1][1] == start
            first = self._masked.pop()[0] if touches else start
            self._masked.append((first, end))
        self._pieces.append(input_ids)
        self.length = end
