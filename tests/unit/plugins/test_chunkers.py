"""The chunkers by example; nothing here imports the training stack."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pytest
from pydantic import ValidationError

from ctxkit.errors import CtxkitError, ExitCode
from ctxkit.spec import Chunk, Chunker, Context, Document, EncodedDocument, Span
from ctxkit_chunkers import OverlapOptions, ParagraphOptions, ctxkit_components
from ctxkit_chunkers.boundaries import BLANK_LINE, LINE, PLAIN, SENTENCE, BoundaryTable
from ctxkit_chunkers.overlap import OverlapChunker
from ctxkit_chunkers.paragraph import ParagraphChunker

if TYPE_CHECKING:
    from collections.abc import Iterable


class Pieces:
    """A tokenizer whose tokens are the given pieces of text."""

    def __init__(self, *pieces: str) -> None:
        """Give the pieces ids in the order given."""
        self.ids = {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}

    def get_vocab(self) -> dict[str, int]:
        """Return piece to id, as a tokenizer does."""
        return self.ids

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        """Return the pieces joined, as a byte-level tokenizer does."""
        return "".join(tokens)

    def encode(self, pieces: Iterable[str]) -> EncodedDocument:
        """Return a document made of these pieces."""
        return encoded([self.ids[piece] for piece in pieces])


def encoded(ids: Iterable[int], name: str = "d") -> EncodedDocument:
    """Return a document of these ids."""
    return EncodedDocument(Document("", name), np.array(list(ids), dtype=np.int32))


def shapes(chunks: Iterable[Chunk]) -> list[tuple[int, int, int]]:
    """Return start, end and context length of each chunk."""
    return [(chunk.spans[0].start, chunk.spans[0].end, chunk.context_length) for chunk in chunks]


def strengths(*pieces: str) -> list[int]:
    """Return how strong the boundary after each piece is."""
    tokenizer: Any = Pieces(*pieces)
    levels: list[int] = BoundaryTable.of(tokenizer).strengths(tokenizer.encode(pieces).input_ids).tolist()
    return levels


def split(pieces: Iterable[str], length: int, min_length: int) -> list[str]:
    """Return the texts of the chunks that the paragraph chunker makes of the pieces."""
    pieces = list(pieces)
    tokenizer: Any = Pieces(*pieces)
    chunks = ParagraphChunker(tokenizer, length=length, min_length=min_length)([tokenizer.encode(pieces)])
    return ["".join(pieces[start:end]) for start, end, _ in shapes(chunks)]


@pytest.mark.parametrize(
    ("tokens", "windows"),
    [
        (2, [(0, 2, 0)]),
        (7, [(0, 7, 0)]),
        (8, [(0, 8, 0)]),
        (9, [(0, 8, 0), (6, 9, 2)]),
        (14, [(0, 8, 0), (6, 14, 2)]),
        (15, [(0, 8, 0), (6, 14, 2), (12, 15, 2)]),
        (16, [(0, 8, 0), (6, 14, 2), (12, 16, 2)]),
    ],
)
def test_windows(tokens: int, windows: list[tuple[int, int, int]]) -> None:
    """Windows of 8 start every 6 tokens, and the tail is a shorter window with its context."""
    assert shapes(OverlapChunker(length=8, overlap=2)([encoded(range(tokens))])) == windows


def test_no_overlap() -> None:
    """Without overlap the windows share nothing, but a lone last token still brings the one that predicts it."""
    chunker = OverlapChunker(length=4)
    assert shapes(chunker([encoded(range(10))])) == [(0, 4, 0), (4, 8, 0), (8, 10, 0)]
    assert shapes(chunker([encoded(range(9))])) == [(0, 4, 0), (4, 8, 0), (7, 9, 1)]


def test_train_on_overlap() -> None:
    """On request nothing is masked, and the windows stay the same."""
    chunker = OverlapChunker(length=8, overlap=2, train_on_overlap=True)
    assert shapes(chunker([encoded(range(15))])) == [(0, 8, 0), (6, 14, 0), (12, 15, 0)]


def test_reference_window_count() -> None:
    """100,000 tokens at 8,192 with half overlap take 24 windows, not 25."""
    assert len(list(OverlapChunker(length=8_192, overlap=4_096)([encoded(range(100_000))]))) == 24


@pytest.mark.parametrize(("length", "overlap"), [(1, 0), (4, 4), (4, 5), (4, -1)])
def test_windows_that_never_end(length: int, overlap: int) -> None:
    """Windows that would not move on are refused when the chunker is made, not by an endless loop."""
    with pytest.raises(ValueError, match="overlap < length"):
        OverlapChunker(length=length, overlap=overlap)


PARAGRAPH: Any = Pieces("a", "\n")
CHUNKERS = [OverlapChunker(length=4, overlap=1), ParagraphChunker(PARAGRAPH, length=4, min_length=2)]
both = pytest.mark.parametrize("chunker", CHUNKERS, ids=["overlap", "paragraph"])


@both
def test_stream(chunker: Chunker) -> None:
    """Documents are taken one by one, and chunks name the document they were cut from."""
    taken = []

    def documents() -> Iterable[EncodedDocument]:
        for name in ("first", "second"):
            taken.append(name)
            yield encoded([0, 0, 0], name)

    chunks = chunker(documents())
    assert next(chunks).spans == (Span("first", 0, 3),)
    assert taken == ["first"]
    assert next(chunks).spans == (Span("second", 0, 3),)


@both
def test_views(chunker: Chunker) -> None:
    """Chunks are views into the document, not copies."""
    document = encoded([0] * 11)
    assert all(np.shares_memory(chunk.input_ids, document.input_ids) for chunk in chunker([document]))


@pytest.mark.parametrize(
    "options",
    [OverlapOptions(kind="overlap", length=4, overlap=1), ParagraphOptions(kind="paragraph", length=4)],
    ids=["overlap", "paragraph"],
)
def test_short_documents(options: OverlapOptions | ParagraphOptions) -> None:
    """Documents of fewer than 2 tokens are counted through the context, not yielded."""
    drops: list[tuple[str, int, str]] = []

    def count(document: EncodedDocument, tokens: int, reason: str) -> None:
        drops.append((document.document.id, tokens, reason))

    context = Context(tokenizer=PARAGRAPH, dropped=count)
    documents = [encoded([], "none"), encoded([0], "one"), encoded([0, 0], "two")]
    assert shapes(options.build(context)(documents)) == [(0, 2, 0)]
    assert drops == [("none", 0, "document shorter than 2 tokens"), ("one", 1, "document shorter than 2 tokens")]


@both
def test_drops_need_no_listener(chunker: Chunker) -> None:
    """A chunker made by hand works without anyone to count drops."""
    assert list(chunker([encoded([0])])) == []


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        (("a", "\n", "\n", "b"), [PLAIN, LINE, BLANK_LINE, PLAIN]),
        (("a", "\n\n", "b"), [PLAIN, BLANK_LINE, PLAIN]),
        (("a.\n\n", "b"), [BLANK_LINE, PLAIN]),
        (("a\n", "\n", "b"), [LINE, BLANK_LINE, PLAIN]),
        (("a", "\n", "  ", "\n", "b"), [PLAIN, LINE, PLAIN, BLANK_LINE, PLAIN]),
        (("a", "\r", "\n", "\r", "\n"), [PLAIN, PLAIN, LINE, PLAIN, BLANK_LINE]),
        (("a\r\n", "\r\n", "b"), [LINE, BLANK_LINE, PLAIN]),
        (("a", "\n\n ", " b"), [PLAIN, BLANK_LINE, PLAIN]),
        (("a", "\n\n\n", "\n"), [PLAIN, BLANK_LINE, BLANK_LINE]),
        (("\n", "\n", "a"), [LINE, BLANK_LINE, PLAIN]),
        (("a\nb", "c"), [PLAIN, PLAIN]),
    ],
)
def test_line_boundaries(pieces: tuple[str, ...], expected: list[int]) -> None:
    """Blank lines and line ends are found whether they are one token, several, or part of one."""
    assert strengths(*pieces) == expected


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        (("a", ".", " b"), [PLAIN, SENTENCE, PLAIN]),
        (("a", ".", " ", "b"), [PLAIN, SENTENCE, PLAIN, PLAIN]),
        (("a. ", "b"), [SENTENCE, PLAIN]),
        (("a?", '"', ")", " b"), [PLAIN, PLAIN, SENTENCE, PLAIN]),
        (("3", ".", "14"), [PLAIN, PLAIN, PLAIN]),
        (("f", "(", ")", " b"), [PLAIN, PLAIN, PLAIN, PLAIN]),
        (("好。", "好"), [SENTENCE, PLAIN]),
        (("好。", "」", "好"), [SENTENCE, SENTENCE, PLAIN]),
        (("a", "."), [PLAIN, PLAIN]),
        (('"', " a", "."), [PLAIN, PLAIN, PLAIN]),
    ],
)
def test_sentence_boundaries(pieces: tuple[str, ...], expected: list[int]) -> None:
    """A sentence ends at a stop and its closing marks where whitespace, or a script without any, agrees."""
    assert strengths(*pieces) == expected


def test_spacing_decoders() -> None:
    """A tokenizer whose decoder strips the first space, as SentencePiece's does, is still read rightly."""

    class Stripping(Pieces):
        def convert_tokens_to_string(self, tokens: list[str]) -> str:
            return "".join(tokens).replace("▁", " ").removeprefix(" ")

    tokenizer: Any = Stripping("▁a", ".", "▁b", "b")
    table = BoundaryTable.of(tokenizer)
    assert table.strengths(tokenizer.encode(["▁a", ".", "▁b"]).input_ids).tolist() == [PLAIN, SENTENCE, PLAIN]
    assert table.strengths(tokenizer.encode(["▁a", ".", "b"]).input_ids).tolist() == [PLAIN, PLAIN, PLAIN]


def test_vocabulary_with_gaps() -> None:
    """Ids that no token has do not shift the ids of the others."""
    tokenizer: Any = Pieces()
    tokenizer.ids = {"\n": 5, "a": 2}
    assert BoundaryTable.of(tokenizer).strengths(np.array([2, 5], dtype=np.int32)).tolist() == [PLAIN, LINE]


@pytest.mark.parametrize(
    ("text", "chunks"),
    [
        ("ab\n\ncd\nefgh", ["ab\n\n", "cd\nefgh"]),
        ("abc\ncd\nefgh", ["abc\ncd\n", "efgh"]),
        ("ab. cd\nefgh. jk", ["ab. cd\n", "efgh. jk"]),
        ("ab. cd. efgh", ["ab. cd.", " efgh"]),
        ("abcdefghijkl", ["abcdefgh", "ijkl"]),
        ("a\n\nbcdefghijk", ["a\n\nbcdef", "ghijk"]),
        ("ab\n\n\n\ncdefgh", ["ab\n\n\n\n", "cdefgh"]),
        ("abcdef\n\nghij", ["abcdef\n\n", "ghij"]),
        ("abcdefg\n\nhij", ["abcdefg\n", "\nhij"]),
        ("abcdefghi", ["abcdefg", "hi"]),
        ("abcdefgh", ["abcdefgh"]),
    ],
)
def test_paragraph_cuts(text: str, chunks: list[str]) -> None:
    """With 4 to 8 tokens the latest of the strongest boundaries in reach wins, and no token is left alone."""
    assert split(text, length=8, min_length=4) == chunks


def test_min_length_equal_to_length() -> None:
    """Equal lengths give fixed windows, but for the last cut where it would leave a single token."""
    assert split("abcdefghi", length=4, min_length=4) == ["abcd", "efg", "hi"]


def test_paragraph_bounds() -> None:
    """Lengths that contradict each other are refused when the chunker is made."""
    for length, least in ((4, 5), (4, 1), (2, 2)):
        with pytest.raises(ValueError, match="min_length"):
            ParagraphChunker(PARAGRAPH, length=length, min_length=least)


def test_components() -> None:
    """The plugin offers its chunkers and one eval."""
    kinds = {(cls.slot, cls.model_fields["kind"].annotation) for cls in ctxkit_components()}
    chunkers = {"overlap", "paragraph", "pose", "multi_file", "commit_chain", "snippet_qa"}
    assert kinds == {*(("chunker", Literal[kind]) for kind in chunkers), ("eval", Literal["snippet_qa"])}


@pytest.mark.parametrize(
    ("length", "overlap", "tokens"),
    [(100, 0, 0), (100, 25, 25), (100, 0.25, 25), (100, 0.29, 29), (10, 0.99, 9), (3, 0.1, 0)],
)
def test_overlap_in_tokens(length: int, overlap: float, tokens: int) -> None:
    """A whole number is tokens, a share is of length, and the windows always move on."""
    options = OverlapOptions(kind="overlap", length=length, overlap=overlap)
    assert options.overlap_tokens == tokens
    assert options.build(Context()) == OverlapChunker(length=length, overlap=tokens, dropped=Context().dropped)


@pytest.mark.parametrize("overlap", [-1, 1.0, 1.5, 0.0, -0.5, True, "0.5", 8, 9])
def test_wrong_overlap(overlap: object) -> None:
    """An overlap that is neither tokens below length nor a share between 0 and 1 does not validate."""
    with pytest.raises(ValidationError, match="1 validation error"):
        OverlapOptions.model_validate({"kind": "overlap", "length": 8, "overlap": overlap})


@pytest.mark.parametrize("fields", [{"length": 8, "min_length": 9}, {"length": 8, "min_length": 1}, {"length": 2}])
def test_wrong_lengths(fields: dict[str, int]) -> None:
    """Lengths that contradict each other do not validate."""
    with pytest.raises(ValidationError):
        ParagraphOptions.model_validate({"kind": "paragraph", **fields})


def test_paragraph_build() -> None:
    """Unless stated, a paragraph chunk is cut no earlier than half of its length."""
    tokenizer: Any = Pieces("a", "\n")
    document = tokenizer.encode("aa\naaaaaaaa")
    default = ParagraphOptions(kind="paragraph", length=8).build(Context(tokenizer=tokenizer))
    stated = ParagraphOptions(kind="paragraph", length=8, min_length=3).build(Context(tokenizer=tokenizer))
    assert shapes(default([document])) == [(0, 8, 0), (8, 11, 0)]
    assert shapes(stated([document])) == [(0, 3, 0), (3, 11, 0)]


def test_paragraph_without_tokenizer() -> None:
    """Paragraph chunks without a tokenizer are a fault of the recipe, and the error says so."""
    with pytest.raises(CtxkitError, match="needs a tokenizer") as caught:
        ParagraphOptions(kind="paragraph", length=8).build(Context())
    assert caught.value.exit_code == ExitCode.RECIPE
