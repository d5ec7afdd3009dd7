"""What is set aside, what is lost, what a person is shown, and the names that decide whether data is made anew."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxkit import provenance
from ctxkit.errors import DataError
from ctxkit.recipe import EvalSplit, Packing
from ctxkit.spec import (
    BY_RULE,
    Chunk,
    Context,
    Document,
    EncodedDocument,
    FilterOptions,
    SourceOptions,
    Span,
    TokenFilter,
    TokenFilterOptions,
)
from ctxkit.train import keys as keys_module
from ctxkit.train import rows, tokens
from ctxkit.train.keys import data_keys
from ctxkit.train.ledger import difficulty, histogram, summary
from ctxkit.train.reader import Reader
from ctxkit_chunkers.structures import MultiFileOptions
from ctxkit_filters.options import LengthOptions
from ctxkit_report.manifest import look
from tests.unit.train.builders import (
    Scripted,
    Texts,
    byte_tokenizer,
    ids_of,
    keys_of,
    prepare,
    rows_folder,
    samples_of,
    section,
    store_folder,
    written,
)

pytestmark = pytest.mark.torch

MANY = Texts(lengths=(9,) * 400, groups=tuple(f"repository {number // 8}" for number in range(400)))


def documents_of(tmp_path: Path, prepared: Any) -> dict[str, set[str]]:
    """Return the ids of the documents in each split, found by the address of each row in the token store."""
    lines = [json.loads(line) for line in (store_folder(tmp_path) / "documents.jsonl").read_text().splitlines()]
    ends = np.fromfile(store_folder(tmp_path) / "index.bin", dtype="<i8").reshape(-1, 3)[:, 0]
    found = {}
    for name, dataset in (("train", prepared.train), ("eval", prepared.eval)):
        raw = dataset.with_format(None)
        places = [start for row in raw for start in row["starts"]]
        found[name] = {lines[int(np.searchsorted(ends, place, side="right"))]["id"] for place in places}
    return found


@pytest.mark.parametrize("by", ["document", "group"])
def test_no_document_is_in_both_splits(by: str, tmp_path: Path) -> None:
    """Neither a document nor, where asked for, a group is both trained and evaluated; the share is about right."""
    prepared = prepare(section(MANY, eval=EvalSplit(share=0.25, by=by)), tmp_path)
    found = documents_of(tmp_path, prepared)
    assert len(found["train"]) + len(found["eval"]) == 400
    assert not found["train"] & found["eval"]
    assert 60 <= len(found["eval"]) <= 140
    groups = {name: {int(text.removeprefix("text/")) // 8 for text in ids} for name, ids in found.items()}
    assert bool(groups["train"] & groups["eval"]) == (by == "document")


def test_held_out_tokens_are_in_no_training_row(tmp_path: Path) -> None:
    """With overlap, packing and a text of its own in each document, no tokens of one split are in the other."""
    source = Texts(texts=tuple(f"{number:05}" * 20 for number in range(100)))
    data = section(source, length=32, overlap=8, packing=Packing(length=64), eval=EvalSplit(share=0.3))
    prepared = prepare(data, tmp_path)
    spelled = {}
    for name, dataset in (("train", prepared.train), ("eval", prepared.eval)):
        texts = (byte_tokenizer().decode(row["input_ids"]) for row in dataset)
        spelled[name] = {number for number in range(100) for text in texts if f"{number:05}" * 2 in text}
    assert not spelled["train"] & spelled["eval"]
    assert stretches(prepared.train) & stretches(prepared.eval) == set()


def stretches(dataset: Any) -> set[int]:
    """Return every token of the stores that the rows point at."""
    raw = dataset.with_format(None)
    return {
        start + offset
        for row in raw
        for start, count in zip(row["starts"], row["counts"], strict=True)
        for offset in range(count)
    }


def test_split_is_stable_under_more_documents(tmp_path: Path) -> None:
    """A corpus that grew sets the same old documents aside; another seed sets others aside."""
    found = {}
    for name, count, seed in (("few", 200, 0), ("many", 400, 0), ("seed", 400, 1)):
        data = section(Texts(lengths=(9,) * count), eval=EvalSplit(share=0.2))
        found[name] = documents_of(tmp_path / name, prepare(data, tmp_path / name, seed=seed))["eval"]
    old = {f"text/{number}" for number in range(200)}
    assert found["few"] == found["many"] & old
    assert found["seed"] != found["many"]


def test_split_that_sets_nothing_aside_is_an_error(tmp_path: Path) -> None:
    """An evaluation on nothing would fail in the middle of training."""
    with pytest.raises(DataError, match=r"data\.eval sets no document aside"):
        prepare(section(Texts(lengths=(9,) * 3), eval=EvalSplit(share=1e-9)), tmp_path)


def test_split_that_sets_everything_aside_is_an_error(tmp_path: Path) -> None:
    """Nothing would be left to train on."""
    with pytest.raises(DataError, match="no training example is left"):
        prepare(section(Texts(lengths=(9,) * 3), eval=EvalSplit(share=1 - 1e-12)), tmp_path)


def test_budget_sets_aside_among_what_was_read(tmp_path: Path) -> None:
    """With `max_tokens` the held-out documents are a share of those read, and the budget is for training alone."""
    prepared = prepare(section(MANY, max_tokens=1000, eval=EvalSplit(share=0.25)), tmp_path)
    (ledger,) = prepared.manifest["sources"]
    assert ledger["tokens_trained"] == 1000
    assert ledger["tokens_read"] == 1000 + ledger["tokens_eval"]
    assert 0.1 < ledger["tokens_eval"] / ledger["tokens_read"] < 0.4


class Short(TokenFilterOptions):
    """Drops documents of few tokens."""

    kind: Literal["short"] = "short"
    least: int

    def build(self, context: Context) -> TokenFilter:
        """Return the judge."""
        return lambda document: "too short" if len(document.input_ids) < self.least else None


class Drop(FilterOptions):
    """Drops texts that begin so."""

    kind: Literal["drop"] = "drop"
    start: str

    def build(self, context: Context) -> Any:
        """Return the judge."""
        return lambda document: f"begins with {self.start}" if document.text.startswith(self.start) else None


def test_more_loss_than_allowed_is_refused(tmp_path: Path) -> None:
    """`max_lost` compares tokens left out with tokens read, and the message says where they went."""
    source = Texts(lengths=(9,) * 30 + (99,) * 7)  # 300 and 700 tokens
    lossy = section(source, filters=(Short(least=20),), max_lost=0.3)
    assert prepare(lossy, tmp_path).manifest["sources"][0]["dropped"] == {"too short": 300}
    with pytest.raises(DataError, match=r"300 of 1,000 tokens \(30.0%\) are left out, and .* allows 29.0%") as caught:
        prepare(lossy.model_copy(update={"max_lost": 0.29}), tmp_path)
    assert "too short (300 tokens)" in caught.value.hint


def test_token_filter_is_counted_in_documents_and_tokens(tmp_path: Path) -> None:
    """What a filter by tokens drops was tokenised, so both are known."""
    (ledger,) = prepare(section(Texts(lengths=(3, 9, 4)), filters=(Short(least=8),)), tmp_path).manifest["sources"]
    assert (ledger["dropped_documents"], ledger["dropped"]) == ({"too short": 2}, {"too short": 9})


@pytest.mark.parametrize("keep", [False, True])
def test_left_out_texts_are_kept_on_request(keep: bool, tmp_path: Path) -> None:
    """`keep_left_out` puts the texts that filters drop into `left_out.jsonl`, to be looked at."""
    source = Texts(texts=("bad one", "good one", "bad <two>"))
    prepare(section(source, filters=(Drop(start="bad"),), keep_left_out=keep), tmp_path)
    lines = [json.loads(line) for line in (store_folder(tmp_path) / "left_out.jsonl").read_text().splitlines()]
    assert [line["reason"] for line in lines] == ["begins with bad"] * 2
    assert [line.get("text") for line in lines] == (["bad one", "bad <two>"] if keep else [None, None])


def test_difficulty_by_hand() -> None:
    """Each point by its own, at and beyond its border, over a window of 1,600 tokens."""
    easy = {"length": 400, "documents": 1, "reach": 100}
    one_point = [{"length": 401}, {"documents": 2}, {"documents": 4}, {"reach": 101}, {"reach": 400}, {"length": 800}]
    for change in [{}, *one_point]:
        assert difficulty(window=1600, **{**easy, **change}) == "easy", change
    for change in [{"length": 801}, {"documents": 5}, {"reach": 401}, {"length": 500, "documents": 3}]:
        assert difficulty(window=1600, **{**easy, **change}) == "medium", change
    assert difficulty(801, 1600, 2, 0) == "medium"
    assert difficulty(801, 1600, 5, 0) == "hard"
    assert difficulty(1600, 1600, 5, 101) == "very_hard"
    assert difficulty(1600, 1600, 5, 1600) == "very_hard"


def test_histogram_by_hand() -> None:
    """Powers of two from the shortest to the longest, those between included, and nothing of length 0."""
    assert histogram([]) == []
    assert histogram([0, 0]) == []
    assert histogram([1, 2, 3, 9, 0]) == [
        {"least": 1, "most": 1, "count": 1, "tokens": 1},
        {"least": 2, "most": 3, "count": 2, "tokens": 5},
        {"least": 4, "most": 7, "count": 0, "tokens": 0},
        {"least": 8, "most": 15, "count": 1, "tokens": 9},
    ]


@given(st.lists(st.integers(0, 1 << 40), max_size=30))
def test_histogram_holds_every_length(lengths: list[int]) -> None:
    """Each class holds the lengths between its borders, and all of them together hold everything."""
    bins = histogram(lengths)
    for part in bins:
        inside = [length for length in lengths if part["least"] <= length <= part["most"]]
        assert (part["count"], part["tokens"]) == (len(inside), sum(inside))
    assert sum(part["count"] for part in bins) == sum(length > 0 for length in lengths)
    assert all(two["least"] == one["most"] + 1 for one, two in pairwise(bins))


def test_summary_by_hand() -> None:
    """Four rows in a window of 100."""
    made = summary([10, 25, 50, 100], 5, 7, 100, ["easy", "easy", "hard", "easy"])
    assert (made.rows, made.chunks, made.tokens, made.tokens_trained, made.longest) == (4, 7, 185, 180, 100)
    assert made.efficiency == pytest.approx(185 / 400)
    assert made.longer_than == {"0.25": 0.75, "0.5": 0.5, "1.0": 0.25}
    assert made.difficulty == {"easy": 3, "medium": 0, "hard": 1, "very_hard": 0}


class Framed(Scripted):
    """A frame of three tokens around two documents, the frame masked, and two tokens of each document besides."""

    @staticmethod
    def made(_: Context, documents: Iterable[EncodedDocument]) -> Iterator[Chunk]:
        """Join two documents each."""
        for first, second in zip(*[iter(documents)] * 2, strict=True):
            frame = np.array([40, 41, 42], dtype=np.int32)
            ids = np.concatenate([frame, first.input_ids, second.input_ids, frame])
            one, two = len(first.input_ids), len(second.input_ids)
            spans = Span(first.document.id, 0, one, 3), Span(second.document.id, 0, two, 3 + one)
            yield Chunk(ids, spans, masked=((0, 5), (3 + one + two, 6 + one + two)))


def test_samples_hold_the_rows_they_show(tmp_path: Path) -> None:
    """Each sample, put together from its stretches, is its row; masks, insertions and borders are told."""
    data = section(Texts(lengths=(5, 6) * 12), chunker=Framed(length=32), packing=Packing(length=64))
    prepared = prepare(data, tmp_path)
    samples = samples_of(tmp_path)
    assert len(samples) == len(prepared.train) == 4
    for sample in samples:
        row = prepared.train[sample["row"]]
        segments = sample["segments"]
        assert sample["tokens"] == len(row["input_ids"]) == sum(part["tokens"] for part in segments)
        assert "".join(part["text"] for part in segments) == byte_tokenizer().decode(row["input_ids"])
        hidden = [part["masked"] for part in segments for _ in range(part["tokens"])]
        assert hidden == (row["labels"] == -100).tolist()
        assert sum(part["boundary"] for part in segments) == len(row["seq_lengths"]) - 1
        for part in segments:
            assert part["kind"] in ("inserted", "document")
            assert (part["kind"] == "inserted") == ("document" not in part)
            assert (part["omitted"], part["tail"]) == (0, "")
            if part["kind"] == "document":
                number = int(part["document"].removeprefix("text/"))
                whole = written(number, (5, 6)[number % 2]) + "<eos>"
                cut = byte_tokenizer()(whole)["input_ids"][part["start"] : part["end"]]
                assert part["text"] == byte_tokenizer().decode(cut)


def test_samples_are_what_the_report_reads(tmp_path: Path) -> None:
    """The reader of the report finds every field, and no problem."""
    prepared = prepare(section(MANY, packing=Packing(length=64), eval=EvalSplit(share=0.3)), tmp_path)
    found = look(tmp_path)
    assert not found.problems
    (made,) = found.sets
    assert {sample.split for sample in made.samples} == {"train", "eval"}
    for sample in made.samples:
        assert None not in (sample.row, sample.tokens)
        assert sample.source == "texts"
        assert sample.difficulty
        assert all(segment.document and segment.end and segment.tokens and segment.text for segment in sample.segments)
    assert made.train is not None
    assert made.evaluation is not None
    assert (made.train.rows, made.window, made.vocabulary) == (len(prepared.train), 64, 258)


def test_long_stretch_is_shown_in_part(tmp_path: Path) -> None:
    """Head and tail, and how many tokens lie between."""
    text = written(3, 999)
    prepare(section(Texts(texts=(text,)), length=1000), tmp_path)
    (sample,) = samples_of(tmp_path)
    (segment,) = sample["segments"]
    assert (segment["start"], segment["end"], segment["tokens"]) == (0, 1000, 1000)
    assert segment["text"] == text[:160]
    assert segment["tail"] == text[-59:] + "<eos>"
    assert segment["omitted"] == 1000 - 160 - 60


def test_document_named_by_broken_unicode(tmp_path: Path) -> None:
    """A file name that is no valid Unicode is no reason to fail when it is written down."""
    source = Texts(texts=("some text",), ids=("bad\udc80name",))
    assert len(prepare(section(source), tmp_path).train) == 1
    assert "name" in samples_of(tmp_path)[0]["segments"][0]["document"]


class Fingerprinted(SourceOptions):
    """A source whose documents change though its options stay."""

    kind: Literal["fingerprinted"] = "fingerprinted"
    text: str = "text"

    def fingerprint(self, context: Context) -> str:
        """Return what tests replace."""
        return "now"

    def build(self, context: Context) -> Iterator[Document]:
        """Yield one document."""
        yield Document(self.text, "one")


class Against(TokenFilterOptions):
    """A filter that reads documents of its own."""

    kind: Literal["against"] = "against"
    source: Fingerprinted = Fingerprinted()


@pytest.fixture
def changed(tmp_path: Path) -> Any:
    """Return a function that says whether the keys of rows and of the stores differ from those of a plain section."""
    context = Context(tokenizer=byte_tokenizer())
    plain = keys_of(section(Fingerprinted()), context, tmp_path)

    def differ(data: Any = None, seed: int = 0) -> tuple[bool, bool]:
        made = keys_of(data or section(Fingerprinted()), Context(tokenizer=byte_tokenizer(), seed=seed), tmp_path)
        return made.rows != plain.rows, made.stores != plain.stores

    return differ


def test_keys_are_the_same_for_the_same(changed: Any) -> None:
    """Nothing changed, nothing is made anew."""
    assert changed() == (False, False)


def test_keys_change_with_what_the_stores_hold(changed: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Options, fingerprint, seed, filters of texts, tokenizer, source code and format give other stores and rows."""
    assert changed(section(Fingerprinted(text="other"))) == (True, True)
    assert changed(seed=1) == (True, True)
    assert changed(section(Fingerprinted(), filters=(Drop(start="x"),))) == (True, True)
    assert changed(section(Fingerprinted(), keep_left_out=True)) == (True, True)
    with monkeypatch.context() as patch:
        patch.setattr(Fingerprinted, "fingerprint", lambda *_: "later")
        assert changed() == (True, True)
    with monkeypatch.context() as patch:
        patch.setattr(tokens, "FORMAT", tokens.FORMAT + 1)
        assert changed() == (True, True)
    with monkeypatch.context() as patch:
        source = provenance.source_hash
        patch.setattr(keys_module, "source_hash", lambda cls: "new" if cls is Fingerprinted else source(cls))
        assert changed() == (True, True)
    file = tmp_path / "tokenizer/tokenizer.json"
    file.write_text(file.read_text() + " ")
    assert changed() == (True, True)


@pytest.mark.parametrize(
    "change",
    [
        {"max_tokens": 5},
        {"packing": Packing()},
        {"eval": EvalSplit(share=0.5)},
        {"filters": (Short(least=2),)},
        {"length": 17},
        {"overlap": 1},
    ],
    ids=str,
)
def test_keys_of_the_stores_stay(change: dict, changed: Any) -> None:
    """What is done with tokens changes the rows, and no store."""
    assert changed(section(Fingerprinted(), **change)) == (True, False)


@pytest.mark.parametrize("change", [{"max_tokens": 5}, {"weight": 2.0}], ids=str)
def test_keys_of_the_stores_stay_for_limits_of_a_source(change: dict, changed: Any) -> None:
    """Neither its weight nor its limit changes what a source holds."""
    assert changed(section(Fingerprinted(**change))) == (True, False)


def test_keys_change_with_the_code_of_chunker_and_format(changed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A chunker that was edited, or rows of another version, leave the stores as they are."""
    source = provenance.source_hash
    with monkeypatch.context() as patch:
        patch.setattr(keys_module, "source_hash", lambda cls: "new" if "Overlap" in cls.__name__ else source(cls))
        assert changed() == (True, False)
    monkeypatch.setattr(rows, "FORMAT", rows.FORMAT + 1)
    assert changed() == (True, False)


def test_keys_change_with_documents_that_a_filter_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A filter that holds a source of its own, as a benchmark not to train on, judges anew when that changes."""
    context = Context(tokenizer=byte_tokenizer())
    data = section(Texts(lengths=(9,)), filters=(Against(),))
    before = keys_of(data, context, tmp_path)
    monkeypatch.setattr(Fingerprinted, "fingerprint", lambda *_: "later")
    after = keys_of(data, context, tmp_path)
    assert before.rows != after.rows
    assert before.stores == after.stores


def test_rows_folder_is_named_by_its_key(tmp_path: Path) -> None:
    """Prepared data lies where the key says, and two sections lie beside each other."""
    data = section(Texts(lengths=(20,)))
    prepare(data, tmp_path)
    assert rows_folder(tmp_path).name == keys_of(data, Context(tokenizer=byte_tokenizer()), tmp_path).rows
    assert ids_of(prepare(section(Texts(lengths=(20,)), length=8), tmp_path)) != ids_of(prepare(data, tmp_path))
    assert len(list((tmp_path / "data").glob("*/manifest.json"))) == 2


def test_nothing_may_be_lost(tmp_path: Path) -> None:
    """`max_lost: 0` refuses documents that a filter of texts drops, though nobody counted their tokens."""
    judge = LengthOptions(kind="length", max_characters=30)
    data = section(Texts(lengths=(20, 40)), length=64, filters=(judge,), max_lost=0)
    with pytest.raises(DataError, match=r"1 documents are left out.*\n.*longer than 30 characters"):
        prepare(data, tmp_path)


def test_what_a_rule_leaves_out_is_no_loss(tmp_path: Path) -> None:
    """`max_lost: 0` allows what a source leaves out by rule, such as merges, and nothing else that it skips."""

    class Ruled(Texts):
        def build(self, context: Context) -> Iterator[Document]:
            context.skipped("merge/1", f"{BY_RULE}merge")
            return super().build(context)

    assert prepare(section(Ruled(texts=("a text",)), max_lost=0), tmp_path).manifest["train"]["rows"] == 1
    with pytest.raises(DataError, match=r"1 documents are left out"):
        prepare(section(Ruled(texts=("a text",), bad=(0,)), max_lost=0), tmp_path)


def test_joining_documents_is_no_loss(tmp_path: Path) -> None:
    """The begin and end tokens of documents that are joined are listed, and `max_lost: 0` allows them."""
    source = Texts(texts=("a = 1\n", "b = 2\n"), groups=("repo", "repo"), ids=("a.py", "b.py"))
    chunker, tokenizer = MultiFileOptions(kind="multi_file", length=64), byte_tokenizer()
    tokenizer.add_tokens(list(chunker.special_tokens(tokenizer.get_vocab())), special_tokens=True)
    ledger = prepare(section(source, chunker=chunker, max_lost=0), tmp_path, tokenizer).manifest["sources"][0]
    assert ledger["dropped"] == {f"{BY_RULE}begin and end tokens inside an example": 2}
    assert (ledger["tokens_read"], ledger["tokens_kept"]) == (14, 12)


def test_versions_of_one_origin_stay_together(tmp_path: Path) -> None:
    """All versions of a file, and the file itself, go to the same side."""
    documents = [
        *(
            EncodedDocument(Document("", f"{n}:a", metadata={"origin": f"repo/{n % 9}"}), np.arange(3))
            for n in range(90)
        ),
        *(EncodedDocument(Document("", f"repo/{n}"), np.arange(3)) for n in range(9)),
    ]

    class Store:
        def position_of(self, number: int) -> int:
            return number

    class Source:
        store = Store()

        def get(self, number: int) -> EncodedDocument | None:
            return documents[number] if number < len(documents) else None

    reader = Reader(Source(), (), EvalSplit(share=0.4), 0, Counter())
    trained = {d.document.metadata.get("origin", d.document.id) for _, d in reader.train()}
    aside = {d.document.metadata.get("origin", d.document.id) for _, d in reader.held_out()}
    assert trained
    assert aside
    assert not trained & aside
    assert trained | aside == {f"repo/{n}" for n in range(9)}


def test_chat_template_is_part_of_the_key(tmp_path: Path) -> None:
    """Transformers keeps it in a file of its own, which is no JSON."""
    data = section(Texts(lengths=(20,)))
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    (folder / "tokenizer.json").write_text("{}")
    before = data_keys(data, Context(), folder)
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    assert data_keys(data, Context(), folder) != before
