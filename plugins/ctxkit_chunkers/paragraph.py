"""Chunks that end where the text does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ctxkit_chunkers.boundaries import BoundaryTable, cut_end
from ctxkit_chunkers.byte_places import ByteTable
from ctxkit_chunkers.definitions import Definitions
from ctxkit_chunkers.documents import LEAST, Dropped, cut, long_enough, uncounted
from ctxkit_chunkers.languages import has_headings, language_of, path_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy as np
    from numpy.typing import NDArray
    from transformers import PreTrainedTokenizerBase

    from ctxkit.spec import Chunk, EncodedDocument


@dataclass(frozen=True)
class Code:
    """Finds the boundaries that only parsed code shows."""

    places: ByteTable
    definitions: Definitions

    def strengthen(self, strengths: NDArray[np.uint8], document: EncodedDocument, language: str) -> None:
        """Raise the boundaries around definitions, unless tokens and text of the document do not add up."""
        data = document.document.text.encode(errors="surrogatepass")
        ends = self.places.ends(document.input_ids, data)
        if ends is not None:
            self.definitions.strengthen(strengths, ends, data, language)


class ParagraphChunker:
    """Cut each document at the strongest boundary that leaves between `min_length` and `length` tokens."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        *,
        length: int,
        min_length: int,
        code: bool = False,
        dropped: Dropped = uncounted,
    ) -> None:
        """Read the vocabulary once; lengths are in tokens.

        Args:
            tokenizer: The one that encoded the documents.
            length: Tokens in the longest chunk.
            min_length: Tokens before which nothing is cut unless the document ends.
            code: Parse code, where its grammar is installed, and cut it between functions and classes.
            dropped: Told of documents that are too short.
        """
        if not LEAST <= min_length <= length or length == LEAST:
            raise ValueError(f"needs {LEAST} <= min_length <= length and length > {LEAST}: {min_length}, {length}")
        self._table = BoundaryTable.of(tokenizer)
        self._code = Code(ByteTable.of(tokenizer), Definitions()) if code else None
        self._length = length
        self._min_length = min_length
        self._dropped = dropped

    def __call__(self, documents: Iterable[EncodedDocument]) -> Iterator[Chunk]:
        """Yield the chunks of each document in order; they share nothing and leave nothing out."""
        for document in long_enough(documents, self._dropped):
            strengths = self._strengths(document)
            start = 0
            while start < len(strengths):
                end = self._end(strengths, start)
                yield cut(document, start, end)
                start = end

    def _strengths(self, document: EncodedDocument) -> NDArray[np.uint8]:
        path = path_of(document.document)
        strengths = self._table.strengths(document.input_ids, headings=has_headings(path))
        language = language_of(path)
        if self._code is not None and language:
            self._code.strengthen(strengths, document, language)
        return strengths

    def _end(self, strengths: NDArray[np.uint8], start: int) -> int:
        """Return where the chunk from `start` ends: at the latest of the strongest boundaries in reach."""
        rest = len(strengths) - start
        if rest <= self._length:
            return len(strengths)
        # never strand a single token at the end, which would have nothing to be predicted from
        latest = min(self._length, rest - LEAST)
        earliest = min(self._min_length, latest)
        return cut_end(strengths, start, earliest, latest)
