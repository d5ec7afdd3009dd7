"""Files in snippets, numbered in an example, and questions about which of them defines a name."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from ctxkit_chunkers.boundaries import BoundaryTable, cut_end
from ctxkit_chunkers.byte_places import ByteTable
from ctxkit_chunkers.languages import language_of, path_of
from ctxkit_chunkers.markup import text_ids
from ctxkit_chunkers.names import Definition, definitions_in

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from transformers import PreTrainedTokenizerBase

    from ctxkit.spec import EncodedDocument

LONGEST_NAME = 64
"""Bytes of the longest name that is asked for."""


@dataclass(frozen=True)
class Snippet:
    """Tokens `start` to `end` (exclusive) of a document."""

    document: EncodedDocument
    start: int
    end: int
    asked: tuple[str, ...]
    """Names that it surely defines, at the left margin."""
    defined: tuple[str, ...]
    """All names that it may define."""


class Snippets:
    """Cuts documents at their definitions, and further where a snippet would be too long."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, longest: int) -> None:
        """Read the vocabulary once; `longest` is in tokens."""
        self._boundaries = BoundaryTable.of(tokenizer)
        self._places = ByteTable.of(tokenizer)
        self._longest = longest

    def of(self, document: EncodedDocument, start: int, end: int) -> list[Snippet]:
        """Return the snippets of tokens `start` to `end` of a document; they cover all of them in order."""
        data = document.document.text.encode(errors="surrogatepass")
        found = list(definitions_in(data, language_of(path_of(document.document))))
        ends = self._places.ends(document.input_ids[start:end], data)
        if ends is None:
            # where a name stands is not known, so any snippet may define it
            names = tuple(definition.name for definition in found)
            return [Snippet(document, *piece, (), names) for piece in self._pieces(document, [start, end])]
        wanted = [definition.start for definition in found if definition.top]
        cuts = {start, end, *(start + int(cut) for cut in np.searchsorted(ends, wanted, side="right"))}
        pieces = list(self._pieces(document, sorted(cuts)))
        return [Snippet(document, *piece, *_names(found, _bytes(piece, start, ends))) for piece in pieces]

    def _pieces(self, document: EncodedDocument, cuts: Sequence[int]) -> Iterator[tuple[int, int]]:
        for start, end in pairwise(cuts):
            place = start
            while end - place > self._longest:
                strengths = self._boundaries.strengths(document.input_ids[place : place + self._longest + 1])
                cut = place + cut_end(strengths, 0, max(self._longest // 2, 1), self._longest)
                yield place, cut
                place = cut
            yield place, end


def _bytes(piece: tuple[int, int], start: int, ends: NDArray[np.int64]) -> tuple[int, int]:
    """Return the bytes of a piece of a document whose text begins at token `start`."""
    first, last = piece[0] - start, piece[1] - start
    return int(ends[first - 1]) if first else 0, int(ends[last - 1])


def _names(found: Sequence[Definition], piece: tuple[int, int]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names that a piece surely defines, and all that it holds an end of."""
    here = [definition for definition in found if piece[0] < definition.name_end <= piece[1]]
    sure = (definition for definition in here if definition.top and definition.start >= piece[0])
    return tuple(definition.name for definition in sure), tuple(definition.name for definition in here)


@dataclass(frozen=True)
class Question:
    """A name and the number of the snippet that defines it."""

    name: str
    number: int


def questions_on(snippets: Sequence[Snippet]) -> list[Question]:
    """Return every question with one answer: the names that are defined exactly once among the snippets."""
    counts = Counter(name for snippet in snippets for name in snippet.defined)
    return [
        Question(name, number)
        for number, snippet in enumerate(snippets)
        for name in snippet.asked
        if counts[name] == 1 and len(name.encode()) <= LONGEST_NAME
    ]


@dataclass(frozen=True)
class Wording:
    """Writes markers, questions and answers as plain text, so that any count of snippets needs no new token."""

    tokenizer: PreTrainedTokenizerBase

    def marker(self, number: int) -> NDArray[np.int32]:
        """Return what stands before a snippet."""
        return self._ids(f"\n<|SNIPPET_{number}|>\n")

    def question(self, name: str) -> NDArray[np.int32]:
        """Return what asks for a name; the answer follows at once."""
        return self._ids(f"\nQUESTION: Which snippet defines {name}?\nANSWER:")

    def answer(self, number: int) -> NDArray[np.int32]:
        """Return the answer, with the line end that tells 1 from 12."""
        return self._ids(f" {number}\n")

    def _ids(self, text: str) -> NDArray[np.int32]:
        return np.array(text_ids(self.tokenizer, text), dtype=np.int32)
