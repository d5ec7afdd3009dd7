"""Chunks that end where the text does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ctxkit_chunkers.boundaries import BoundaryTable, cut_end
from ctxkit_chunkers.documents import LEAST, Dropped, cut, long_enough, uncounted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy as np
    from numpy.typing import NDArray
    from transformers import PreTrainedTokenizerBase

    from ctxkit.spec import Chunk, EncodedDocument


class ParagraphChunker:
    """Cut each document at the strongest boundary that leaves between `min_length` and `length` tokens."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, *, length: int, min_length: int, dropped: Dropped = uncounted
    ) -> None:
        """Read the vocabulary once; lengths are in tokens.

        Args:
            tokenizer: The one that encoded the documents.
            length: Tokens in the longest chunk.
            min_length: Tokens before which nothing is cut unless the document ends.
            dropped: Told of documents that are too short.
        """
        if not LEAST <= min_length <= length or length == LEAST:
            raise ValueError(f"needs {LEAST} <= min_length <= length and length > {LEAST}: {min_length}, {length}")
        self._table = BoundaryTable.of(tokenizer)
        self._length = length
        self._min_length = min_length
        self._dropped = dropped

    def __call__(self, documents: Iterable[EncodedDocument]) -> Iterator[Chunk]:
        """Yield the chunks of each document in order; they share nothing and leave nothing out."""
        for document in long_enough(documents, self._dropped):
            strengths = self._table.strengths(document.input_ids)
            start = 0
            while start < len(strengths):
                end = self._end(strengths, start)
                yield cut(document, start, end)
                start = end

    def _end(self, strengths: NDArray[np.uint8], start: int) -> int:
        """Return where the chunk from `start` ends: at the latest of the strongest boundaries in reach."""
        rest = len(strengths) - start
        if rest <= self._length:
            return len(strengths)
        # never strand a single token at the end, which would have nothing to be predicted from
        latest = min(self._length, rest - LEAST)
        earliest = min(self._min_length, latest)
        return cut_end(strengths, start, earliest, latest)
