"""What a chunker hands over is held against its documents: one that lies is named."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxkit.errors import DataError
from ctxkit.spec import Chunk, Context, EncodedDocument, Span
from ctxkit.train.chunks import Inserted, SourceChunks
from tests.unit.train.builders import Scripted, Texts, encoded, prepare, samples_of, section

pytestmark = pytest.mark.torch


def cut(document: EncodedDocument, start: int, end: int, **more: object) -> Chunk:
    """An honest chunk."""
    return Chunk(document.input_ids[start:end], (Span(document.document.id, start, end),), **more)


def wrong_ids(document: EncodedDocument) -> Chunk:
    """Other tokens than the span says."""
    return Chunk(document.input_ids[::-1].copy(), (Span(document.document.id, 0, 10),))


def one_wrong_id(document: EncodedDocument) -> Chunk:
    """One token, the last, is another."""
    ids = document.input_ids.copy()
    ids[-1] = 7
    return Chunk(ids, (Span(document.document.id, 0, len(ids)),))


LIES: dict[str, tuple[Callable[[EncodedDocument], Chunk], str]] = {
    "wrong ids": (wrong_ids, "holds other tokens than its Span"),
    "one wrong id": (one_wrong_id, "holds other tokens than its Span"),
    "ids that end before the span": (
        lambda d: Chunk(d.input_ids[:5], (Span(d.document.id, 0, 10),)),
        "holds other tokens than its Span",
    ),
    "span beyond the end": (
        lambda d: Chunk(d.input_ids, (Span(d.document.id, 0, len(d.input_ids) + 1),)),
        "fits no document",
    ),
    "span before the start": (lambda d: Chunk(d.input_ids[:3], (Span(d.document.id, -3, 0),)), "fits no document"),
    "empty span": (lambda d: Chunk(d.input_ids, (Span(d.document.id, 4, 4),)), "fits no document"),
    "unknown document": (lambda d: Chunk(d.input_ids, (Span("nobody", 0, len(d.input_ids)),)), "fits no document"),
    "spans that overlap in the chunk": (
        lambda d: Chunk(d.input_ids[:6], (Span(d.document.id, 0, 4), Span(d.document.id, 2, 6, 2))),
        "fits no document",
    ),
    "span beyond the chunk": (lambda d: Chunk(d.input_ids[:6], (Span(d.document.id, 0, 6, 2),)), "holds other tokens"),
    "mask beyond the end": (lambda d: cut(d, 0, 10, masked=((5, 11),)), "masks tokens 5 to 11 of a chunk of 10"),
    "mask before the start": (lambda d: cut(d, 0, 10, masked=((-1, 3),)), "masks tokens -1 to 3"),
    "context longer than the chunk": (lambda d: cut(d, 0, 10, context_length=11), "masks tokens 0 to 11"),
    "inserted id below 0": (lambda _: Chunk(np.array([3, -1], dtype=np.int32), ()), "inserts a token of id -1"),
    "inserted id beyond 32 bits": (
        lambda _: Chunk(np.array([3, 1 << 31]), ()),
        "inserts a token of id 2147483648",
    ),
    "longer than its length": (
        lambda _: Chunk(np.zeros(17, dtype=np.int32), ()),
        "made a chunk of 17 tokens, where 1 to 16 are allowed",
    ),
    "empty": (lambda d: Chunk(d.input_ids[:0], ()), "made a chunk of 0 tokens"),
}


def chunker(lie: Callable[[EncodedDocument], Chunk]) -> Scripted:
    """A chunker that makes one chunk of each document."""

    class Lying(Scripted):
        """Does what the lie says."""

        @staticmethod
        def made(_: Context, documents: Iterable[EncodedDocument]) -> Iterator[Chunk]:
            return (lie(document) for document in documents)

    return Lying(length=16)


@pytest.mark.parametrize("lie", list(LIES))
def test_chunker_that_lies_is_named(lie: str, tmp_path: Path) -> None:
    """Whatever does not fit its documents stops the preparation with the kind of the chunker."""
    make, said = LIES[lie]
    with pytest.raises(DataError, match=f"the chunker scripted .*{said}") as caught:
        prepare(section(Texts(lengths=(14,)), chunker=chunker(make)), tmp_path)
    assert "plugin" in caught.value.hint


SPANS = "where a `Span` of a document's id and whole numbers is wanted"
MASKS = "where pairs of whole numbers are wanted"
IDS = "where whole numbers in a row are wanted"
MALFORMED: dict[str, tuple[Callable[[EncodedDocument], object], str]] = {
    "span as a tuple": (
        lambda d: Chunk(d.input_ids, ((d.document.id, 0, 15),)),
        f"span ('text/0', 0, 15), {SPANS}",
    ),
    "no spans": (lambda d: Chunk(d.input_ids, None), "spans None, where a tuple is wanted"),
    "end that is no whole number": (lambda d: Chunk(d.input_ids, (Span(d.document.id, 0, 15.0),)), SPANS),
    "start that is a text": (lambda d: Chunk(d.input_ids, (Span(d.document.id, "0", 15),)), SPANS),
    "offset that is a text": (lambda d: Chunk(d.input_ids, (Span(d.document.id, 0, 15, "a"),)), SPANS),
    "id that has no hash": (lambda d: Chunk(d.input_ids, (Span(["x"], 0, 15),)), "span Span(document_id=['x'], "),
    "no masks": (lambda d: cut(d, 0, 15, masked=None), f"masked=None, {MASKS}"),
    "mask of texts": (lambda d: cut(d, 0, 15, masked=((0, "a"),)), f"masked=((0, 'a'),), {MASKS}"),
    "mask that is no pair": (lambda d: cut(d, 0, 15, masked=((0, 1, 2),)), f"masked=((0, 1, 2),), {MASKS}"),
    "mask of numbers alone": (lambda d: cut(d, 0, 15, masked=(0, 1)), f"masked=(0, 1), {MASKS}"),
    "context that is a text": (lambda d: cut(d, 0, 15, context_length="q"), "context_length='q', where a whole number"),
    "reach that is nothing": (lambda d: cut(d, 0, 15, reach=None), "reach=None, where a whole number is wanted"),
    "ids without a row": (lambda _: Chunk(np.array(3), ()), f"ids of shape () and type int64, {IDS}"),
    "ids in two rows": (lambda d: Chunk(d.input_ids[None], ()), f"ids of shape (1, 15) and type int32, {IDS}"),
    "ids that are objects": (lambda _: Chunk(np.array([None]), ()), f"ids of shape (1,) and type object, {IDS}"),
    "ids with a point": (
        lambda d: Chunk(d.input_ids.astype(float), (Span(d.document.id, 0, 15),)),
        f"ids of shape (15,) and type float64, {IDS}",
    ),
}


@pytest.mark.parametrize("case", list(MALFORMED))
def test_malformed_chunk_is_named(case: str, tmp_path: Path) -> None:
    """What the types forbid is one error that names the chunker and what it gave, not a fault of ours."""
    make, message = MALFORMED[case]
    with pytest.raises(DataError, match=f"the chunker scripted gave .*{re.escape(message)}") as caught:
        prepare(section(Texts(lengths=(14,)), chunker=chunker(make)), tmp_path)
    assert "plugin" in caught.value.hint


def test_numbers_of_numpy_are_whole(tmp_path: Path) -> None:
    """Places that come out of an array are as good as others, and so are lists for tuples."""

    def made(document: EncodedDocument) -> Chunk:
        zero, four, end = np.array([0, 4, 15])
        return Chunk(document.input_ids, [Span(document.document.id, zero, end, zero)], zero, [[zero, four]], end)

    (ledger,) = prepare(section(Texts(lengths=(14, 14)), chunker=chunker(made)), tmp_path).manifest["sources"]
    assert (ledger["tokens_kept"], ledger["tokens_masked"]) == (30, 8)


@pytest.mark.parametrize(
    ("tokens", "reason", "message"),
    [
        ("5", "cut off", "left out '5' tokens of the document 'text/0'"),
        (1.9, "cut off", "left out 1.9 tokens of the document 'text/0'"),
        (5, None, "left out a part of the document 'text/0' for the reason None, which says nothing"),
        (5, " ", "left out a part of the document 'text/0' for the reason ' ', which says nothing"),
    ],
)
def test_drop_that_says_nothing(tokens: object, reason: object, message: str, tmp_path: Path) -> None:
    """How many tokens are whole numbers, and why is words."""

    class Vague(Scripted):
        """Drops so many for that reason."""

        @staticmethod
        def made(context: Context, documents: Iterable[EncodedDocument]) -> Iterator[Chunk]:
            for document in documents:
                context.dropped(document, tokens, reason)
                yield cut(document, 0, 10)

    with pytest.raises(DataError, match=f"the chunker scripted {message}"):
        prepare(section(Texts(lengths=(14,)), chunker=Vague(length=16)), tmp_path)


VANISHED: dict[str, tuple[tuple[int, int], str]] = {
    "nothing said": ((0, 0), "left out 52 of 72 tokens without saying so"),
    "one too few": ((20, 31), "left out 1 of 72 tokens without saying so"),
    "one too many": ((21, 32), "put 10 tokens of the document 'text/1' into chunks and left out 32, 42 of 41"),
    "as many in all, of the wrong document": ((20, 32), "put 10 tokens of the document 'text/1' .* 42 of 41"),
    "less than nothing": ((22, -1), "put 10 tokens of the document 'text/0' .* 32 of 31"),
    "less than nothing first": ((-1, 53), "left out -1 tokens of the document 'text/0'"),
}


@pytest.mark.parametrize("said_first", [False, True], ids=["said after", "said before"])
@pytest.mark.parametrize("budget", [None, 15], ids=["to the end", "stopped by a budget"])
@pytest.mark.parametrize("case", list(VANISHED))
def test_tokens_that_vanish_are_an_error(case: str, budget: int | None, said_first: bool, tmp_path: Path) -> None:
    """A chunker may leave tokens out of each document, and must say how many: no fewer, and no more."""
    drops, message = VANISHED[case]

    class Dropping(Scripted):
        """Keeps ten tokens of documents of 31 and 41."""

        @staticmethod
        def made(context: Context, documents: Iterable[EncodedDocument]) -> Iterator[Chunk]:
            for document, said in zip(documents, drops, strict=True):
                if said_first:
                    context.dropped(document, said, "cut off")
                yield cut(document, 0, 10)
                if not said_first:
                    context.dropped(document, said, "cut off")

    data = section(Texts(lengths=(30, 40)), chunker=Dropping(length=16), max_tokens=budget)
    if budget and ("without saying so" in message or ("text/1" in message and not said_first)):
        # It was stopped before it could have said more.
        (ledger,) = prepare(data, tmp_path).manifest["sources"]
        assert ledger["tokens_unused"] >= 0
        return
    with pytest.raises(DataError, match=f"the chunker scripted {message}"):
        prepare(data, tmp_path)


def test_drop_of_an_unknown_document_is_an_error(tmp_path: Path) -> None:
    """What a chunker says it left out must be of a document that it was given."""

    class Inventing(Scripted):
        """Drops a document of its own."""

        @staticmethod
        def made(context: Context, documents: Iterable[EncodedDocument]) -> Iterator[Chunk]:
            for document in documents:
                context.dropped(encoded([1], "nobody"), 1, "cut off")
                yield cut(document, 0, len(document.input_ids))

    with pytest.raises(DataError, match="the chunker scripted left out a part of the document 'nobody'"):
        prepare(section(Texts(lengths=(9,)), chunker=Inventing(length=16)), tmp_path)


def test_chunker_that_ends_early_is_an_error(tmp_path: Path) -> None:
    """Documents that a chunker never asked for are as lost as those that it threw away."""

    class Lazy(Scripted):
        """Reads one document."""

        @staticmethod
        def made(_: Context, documents: Iterable[EncodedDocument]) -> Iterator[Chunk]:
            document = next(iter(documents))
            yield cut(document, 0, len(document.input_ids))

    with pytest.raises(DataError, match="the chunker scripted ended before its documents did"):
        prepare(section(Texts(lengths=(9, 9)), chunker=Lazy(length=16)), tmp_path)


def test_tokens_that_are_reported_are_in_the_ledger(tmp_path: Path) -> None:
    """The same chunker, honest: what it drops is counted by reason."""

    class Honest(Scripted):
        """Keeps ten tokens of each document."""

        @staticmethod
        def made(context: Context, documents: Iterable[EncodedDocument]) -> Iterator[Chunk]:
            for document in documents:
                context.dropped(document, len(document.input_ids) - 10, "cut off")
                yield cut(document, 0, 10)

    (ledger,) = prepare(section(Texts(lengths=(30, 40)), chunker=Honest(length=16)), tmp_path).manifest["sources"]
    assert ledger["dropped"] == {"cut off": 21 + 31}
    assert (ledger["tokens_read"], ledger["tokens_kept"], ledger["tokens_unused"]) == (72, 20, 0)


class Decorated(Scripted):
    """Joins two documents: a mark, a question, the documents, an answer; masks the question and a stretch."""

    @staticmethod
    def made(_: Context, documents: Iterable[EncodedDocument]) -> Iterator[Chunk]:
        """Make one chunk of all documents."""
        first, second = list(documents)
        parts = [[257], [5, 6, 7], first.input_ids, [9], second.input_ids, [5, 6, 7]]
        ids = np.concatenate([np.array(part, dtype=np.int32) for part in parts])
        lengths = len(first.input_ids), len(second.input_ids)
        spans = (
            Span(first.document.id, 0, lengths[0], 4),
            Span(second.document.id, 0, lengths[1], 4 + lengths[0] + 1),
        )
        yield Chunk(ids, spans, context_length=4, masked=((2, 6), (10, 12)), reach=11)


def test_inserted_tokens_and_masks(tmp_path: Path) -> None:
    """By hand: 5 + 1 tokens of documents of 3 and 4, seven inserted, and masks that overlap are counted once."""
    prepared = prepare(section(Texts(texts=("abc", "defg")), chunker=Decorated(length=20)), tmp_path)
    (row,) = prepared.train
    ids = [257, 5, 6, 7, *_letters("abc"), 0, 9, *_letters("defg"), 0, 5, 6, 7]
    assert row["input_ids"].tolist() == ids
    assert row["labels"].tolist() == [-100] * 6 + ids[6:10] + [-100] * 2 + ids[12:]
    (ledger,) = prepared.manifest["sources"]
    assert (ledger["tokens_kept"], ledger["tokens_inserted"], ledger["tokens_repeated"]) == (9, 8, 0)
    assert (ledger["tokens_trained"], ledger["tokens_masked"], ledger["chunks"]) == (9, 8, 1)
    assert (tmp_path / "data").exists()
    # 17 of 20 tokens: two points; two documents: one; a reach of 11 beyond a quarter of the window: two
    assert prepared.manifest["train"]["difficulty"] == {"easy": 0, "medium": 0, "hard": 0, "very_hard": 1}


def _letters(text: str) -> list[int]:
    from tests.unit.train.builders import byte_tokenizer

    return byte_tokenizer()(text)["input_ids"]


def test_stretch_inserted_again_is_kept_once(tmp_path: Path) -> None:
    """A separator in every example takes no room on the disk."""

    class Separated(Scripted):
        """A mark before each document."""

        @staticmethod
        def made(_: Context, documents: Iterable[EncodedDocument]) -> Iterator[Chunk]:
            for document in documents:
                ids = np.concatenate([np.array([1, 2, 3], dtype=np.int32), document.input_ids])
                yield Chunk(ids, (Span(document.document.id, 0, len(document.input_ids), 3),))

    prepared = prepare(section(Texts(lengths=(5,) * 50), chunker=Separated(length=16)), tmp_path)
    assert all(row["input_ids"][:3].tolist() == [1, 2, 3] for row in prepared.train)
    (inserted,) = (tmp_path / "data").glob("*/inserted.bin")
    assert inserted.stat().st_size == 3 * 2
    assert prepared.manifest["sources"][0]["tokens_inserted"] == 150


def test_chunk_of_inserted_tokens_alone(tmp_path: Path) -> None:
    """A chunk without any document is allowed: its tokens are inserted, and its band is the shortest."""

    class Made(Scripted):
        """One made-up chunk, then the document."""

        @staticmethod
        def made(_: Context, documents: Iterable[EncodedDocument]) -> Iterator[Chunk]:
            yield Chunk(np.array([8, 8], dtype=np.int32), ())
            for document in documents:
                yield cut(document, 0, len(document.input_ids))

    prepared = prepare(section(Texts(lengths=(5,)), chunker=Made(length=16)), tmp_path)
    assert prepared.train[0]["input_ids"].tolist() == [8, 8]
    assert samples_of(tmp_path)[0]["segments"][0]["kind"] == "inserted"


def collected(*chunks: Chunk, documents: tuple[EncodedDocument, ...]) -> SourceChunks:
    """Return chunks checked against documents that lie one after the other."""
    ids = np.concatenate([document.input_ids for document in documents])
    made = SourceChunks(0, 100, "scripted", lambda start, count: ids[start : start + count], Inserted(1))
    start = 0
    for document in documents:
        made.hand_out(document, start)
        start += len(document.input_ids)
    for chunk in chunks:
        made.add(chunk)
    return made


def test_kept_repeated_and_bands_by_hand() -> None:
    """Windows 0-10 and 6-16 of a document of 16: the second keeps six tokens anew and repeats four."""
    document = encoded(range(16))
    made = collected(cut(document, 0, 10), cut(document, 6, 16, context_length=4), documents=(document,))
    assert made.kept.tolist() == [10, 6]
    assert [made.repeated(number) for number in range(2)] == [0, 4]
    assert made.masked_tokens.tolist() == [0, 4]
    assert (made.trained, made.documents_cut, made.bands.tolist()) == (16, 1, [16, 16])


def test_going_back_in_a_document_keeps_nothing_anew() -> None:
    """A chunk within what was covered repeats all of its tokens, and takes nothing from those that follow."""
    document = encoded(range(16))
    made = collected(*(cut(document, *span) for span in ((0, 10), (2, 6), (8, 12))), documents=(document,))
    assert made.kept.tolist() == [10, 0, 2]
    assert [made.repeated(number) for number in range(3)] == [0, 4, 2]


@pytest.mark.parametrize("pieces", list(itertools.permutations([(0, 4), (4, 9), (9, 12), (14, 16)])))
def test_pieces_of_a_document_in_any_order(pieces: tuple[tuple[int, int], ...]) -> None:
    """What comes back to a gap is kept anew: each token counts once, whatever the order."""
    document = encoded(range(16))
    made = collected(*(cut(document, *piece) for piece in pieces), documents=(document,))
    assert made.kept.tolist() == [end - start for start, end in pieces]
    made.drop(document, 2, "cut off")
    made.finish(unread=False)


@given(st.lists(st.tuples(st.integers(0, 15), st.integers(1, 16)).filter(lambda p: p[0] < p[1]), max_size=12))
def test_each_token_is_kept_once(pieces: list[tuple[int, int]]) -> None:
    """Against a set of the tokens that were seen, for pieces that overlap in any way."""
    document = encoded(range(16))
    made = collected(*(cut(document, *piece) for piece in pieces), documents=(document,))
    seen: set[int] = set()
    for (start, end), kept in zip(pieces, made.kept, strict=True):
        before = len(seen)
        seen.update(range(start, end))
        assert kept == len(seen) - before


def test_chunker_that_goes_backwards_loses_nothing(tmp_path: Path) -> None:
    """The end of each document before its beginning: all 72 tokens are kept."""

    class Backwards(Scripted):
        """Hands on two halves, the second first."""

        @staticmethod
        def made(_: Context, documents: Iterable[EncodedDocument]) -> Iterator[Chunk]:
            for document in documents:
                yield cut(document, 20, len(document.input_ids))
                yield cut(document, 0, 20)

    (ledger,) = prepare(section(Texts(lengths=(30, 40)), chunker=Backwards(length=32)), tmp_path).manifest["sources"]
    assert (ledger["tokens_kept"], ledger["tokens_repeated"], ledger["tokens_unused"]) == (72, 0, 0)


def test_documents_of_one_id_get_ids_of_their_own() -> None:
    """Spans name documents by their ids, so the second is handed out under another."""
    first, second = encoded([1, 2, 3], "same"), encoded([4, 5, 6], "same")
    ids = np.arange(1, 7, dtype=np.int32)
    made = SourceChunks(0, 10, "scripted", lambda start, count: ids[start : start + count], Inserted(1))
    given = [made.hand_out(first, 0), made.hand_out(second, 3)]
    assert [document.document.id for document in given] == ["same", "same#2"]
    for document in given:
        made.add(cut(document, 0, 3))
    assert made.kept.tolist() == [3, 3]


def test_band_is_the_longest_document_of_a_chunk() -> None:
    """An example of a short and a long document counts as long."""
    short, long = encoded(range(3), "short"), encoded(range(50), "long")
    parts = {"short": (short.input_ids, Span("short", 0, 3)), "long": (long.input_ids[:5], Span("long", 0, 5))}
    for order in (("short", "long"), ("long", "short")):
        ids, spans = zip(*(parts[name] for name in order), strict=True)
        joined = Chunk(np.concatenate(ids), spans)
        assert collected(joined, documents=(short, long)).bands.tolist() == [50]
