"""Fixed windows that share tokens with their neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ctxkit_chunkers.documents import LEAST, Dropped, cut, long_enough, uncounted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ctxkit.spec import Chunk, EncodedDocument


@dataclass(frozen=True, kw_only=True)
class OverlapChunker:
    """Cut each document into windows of `length` tokens, each repeating `overlap` tokens of the one before."""

    length: int
    """Tokens in a window; only the last of a document is shorter."""
    overlap: int = 0
    """Tokens that a window repeats."""
    train_on_overlap: bool = False
    """Train the repeated tokens again instead of masking them."""
    dropped: Dropped = uncounted
    """Told of documents that are too short."""

    def __post_init__(self) -> None:
        """Refuse windows that would never move on."""
        if self.length < LEAST or not 0 <= self.overlap < self.length:
            raise ValueError(f"needs length >= {LEAST} and 0 <= overlap < length: {self.length}, {self.overlap}")

    def __call__(self, documents: Iterable[EncodedDocument]) -> Iterator[Chunk]:
        """Yield the windows of each document in order."""
        for document in long_enough(documents, self.dropped):
            for start, end, shared in self._windows(len(document.input_ids)):
                yield cut(document, start, end, 0 if self.train_on_overlap else shared)

    def _windows(self, tokens: int) -> Iterator[tuple[int, int, int]]:
        """Yield start, end and shared tokens of each window over a document of so many tokens."""
        start = shared = 0
        while (end := min(start + self.length, tokens)) < tokens:
            yield start, end, shared
            # a lone last token would have nothing to be predicted from, so it always brings the one before it
            shared = max(self.overlap, 1) if tokens - end == 1 else self.overlap
            start = end - shared
        yield start, end, shared
