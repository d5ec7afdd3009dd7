"""What holds for every chunker and every document."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ctxkit.spec import Chunk, Chunker, Document, EncodedDocument
from ctxkit_chunkers.boundaries import BLANK_LINE, LINE, BoundaryTable
from ctxkit_chunkers.overlap import OverlapChunker
from ctxkit_chunkers.paragraph import ParagraphChunker

if TYPE_CHECKING:
    from collections.abc import Iterator

PIECES = ["a", " b", " ", "\n", "\n\n", ".", ". ", ".\n", '"', ")\n\n", " \n ", "\r\n", "\n\t\n", "x\ny", "!)"]


class Pieces:
    """A tokenizer whose tokens are the pieces above."""

    def get_vocab(self) -> dict[str, int]:
        """Return piece to id, as a tokenizer does."""
        return {piece: index for index, piece in enumerate(PIECES)}

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        """Return the pieces joined, as a byte-level tokenizer does."""
        return "".join(tokens)


TOKENIZER: Any = Pieces()
TABLE = BoundaryTable.of(TOKENIZER)


@st.composite
def documents(draw: st.DrawFn, length: int) -> EncodedDocument:
    """Draw a document, often of a size at which chunkers go wrong."""
    edges = st.sampled_from([0, 1, 2, length - 1, length, length + 1, 2 * length])
    tokens = draw(edges | st.integers(0, 5 * length))
    ids = draw(st.lists(st.integers(0, len(PIECES) - 1), min_size=tokens, max_size=tokens))
    return EncodedDocument(Document("", "d"), np.array(ids, dtype=np.int32))


@st.composite
def overlapping(draw: st.DrawFn) -> tuple[OverlapChunker, EncodedDocument]:
    """Draw an overlap chunker that masks what it repeats, and a document."""
    length = draw(st.integers(2, 24))
    return OverlapChunker(length=length, overlap=draw(st.integers(0, length - 1))), draw(documents(length))


@st.composite
def paragraphs(draw: st.DrawFn) -> tuple[int, int, EncodedDocument]:
    """Draw length and min_length of a paragraph chunker, and a document."""
    length = draw(st.integers(3, 24))
    return length, draw(st.integers(2, length)), draw(documents(length))


def chunks_of(chunker: Chunker, document: EncodedDocument) -> list[Chunk]:
    """Return the chunks of one document."""
    return list(chunker([document]))


def check(chunks: list[Chunk], document: EncodedDocument, length: int) -> None:
    """Hold the chunks against what a document's chunks must be."""
    ids = document.input_ids
    if len(ids) < 2:
        assert chunks == []
        return
    spans = [chunk.spans[0] for chunk in chunks]
    assert all(chunk.spans == (span,) and span.document_id == "d" for chunk, span in zip(chunks, spans, strict=True))
    assert all(np.array_equal(c.input_ids, ids[s.start : s.end]) for c, s in zip(chunks, spans, strict=True))
    assert all(2 <= len(chunk.input_ids) <= length for chunk in chunks)
    assert all(one.start < two.start and one.end < two.end for one, two in pairwise(spans)), "in order, none inside"
    assert set().union(*(range(span.start, span.end) for span in spans)) == set(range(len(ids)))
    trained = np.concatenate([chunk.input_ids[chunk.context_length :] for chunk in chunks])
    assert np.array_equal(trained, ids), "each token is trained exactly once"
    assert all(chunk.context_length < len(chunk.input_ids) for chunk in chunks)


@given(overlapping())
def test_overlap(case: tuple[OverlapChunker, EncodedDocument]) -> None:
    """Windows cover a document in order, none lies in another, and each token is trained once."""
    chunker, document = case
    check(chunks_of(chunker, document), document, chunker.length)


@given(overlapping())
def test_overlap_is_exact(case: tuple[OverlapChunker, EncodedDocument]) -> None:
    """Every window but the last is full, and each repeats exactly the stated tokens, or one before a lone token."""
    chunker, document = case
    chunks = chunks_of(chunker, document)
    assert all(len(chunk.input_ids) == chunker.length for chunk in chunks[:-1])
    for one, two in pairwise(chunks):
        shared = one.spans[0].end - two.spans[0].start
        assert shared == two.context_length
        alone = two is chunks[-1] and len(two.input_ids) == 2
        assert shared == (max(chunker.overlap, 1) if alone and chunker.overlap <= 1 and shared else chunker.overlap)


@given(overlapping())
def test_training_on_overlap_moves_no_window(case: tuple[OverlapChunker, EncodedDocument]) -> None:
    """Training the repeated tokens changes the mask and nothing else."""
    chunker, document = case
    trained = OverlapChunker(length=chunker.length, overlap=chunker.overlap, train_on_overlap=True)
    both = zip(chunks_of(chunker, document), chunks_of(trained, document), strict=True)
    assert all(one.spans == two.spans and two.context_length == 0 for one, two in both)


@given(paragraphs())
def test_paragraph(case: tuple[int, int, EncodedDocument]) -> None:
    """Paragraph chunks share nothing, leave nothing out, and keep to their lengths."""
    length, min_length, document = case
    chunks = chunks_of(ParagraphChunker(TOKENIZER, length=length, min_length=min_length), document)
    check(chunks, document, length)
    assert all(chunk.context_length == 0 for chunk in chunks)
    for chunk in chunks[:-1]:
        # cut one token early only where the document would end in a lone token
        early = chunk is chunks[-2] and len(chunks[-1].input_ids) == 2
        assert len(chunk.input_ids) >= min_length - early


@given(paragraphs())
def test_paragraph_takes_the_best_boundary(case: tuple[int, int, EncodedDocument]) -> None:
    """No boundary in reach is stronger than the chosen one, and none as strong comes later."""
    length, min_length, document = case
    strengths = TABLE.strengths(document.input_ids).tolist()
    for chunk in chunks_of(ParagraphChunker(TOKENIZER, length=length, min_length=min_length), document)[:-1]:
        start, end = chunk.spans[0].start, chunk.spans[0].end
        reach = range(start + min_length, min(start + length, len(strengths) - 2) + 1)
        assert end == max(reach, key=lambda place: (strengths[place - 1], place), default=end)


@given(st.lists(st.integers(0, len(PIECES) - 1)))
def test_line_boundaries_agree_with_the_text(ids: list[int]) -> None:
    """The table finds the line ends and blank lines that a regular expression finds in the decoded text."""
    strengths = TABLE.strengths(np.array(ids, dtype=np.int32)).tolist()
    for place, strength in enumerate(strengths):
        text = "".join(PIECES[index] for index in ids[: place + 1])
        ends_line = re.search(r"\n[^\S\n]*\Z", PIECES[ids[place]])
        blank = re.search(r"\n[^\S\n]*\n[^\S\n]*\Z", text)
        assert (strength == BLANK_LINE) == bool(ends_line and blank)
        assert (strength == LINE) == bool(ends_line and not blank)


@given(st.data())
def test_streams_are_deterministic(data: st.DataObject) -> None:
    """A stream of documents gives what each document gives alone, every time."""
    several = data.draw(st.lists(documents(8), max_size=4))
    for chunker in (OverlapChunker(length=8, overlap=3), ParagraphChunker(TOKENIZER, length=8, min_length=3)):
        alone = [shape for document in several for shape in shapes(chunker([document]))]
        assert list(shapes(chunker(several))) == alone == list(shapes(chunker(several)))


def shapes(chunks: Iterator[Chunk]) -> Iterator[tuple[object, ...]]:
    """Return all that a chunk says, in a form that can be compared."""
    return ((chunk.input_ids.tolist(), chunk.spans, chunk.context_length) for chunk in chunks)
