"""From documents to rows: what is trained and masked, how sources are mixed, and that every token is accounted for."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from ctxkit.errors import DataError
from ctxkit.recipe import DataSection
from ctxkit.spec import Chunk, Context, Document, EncodedDocument, SourceOptions
from ctxkit_chunkers.options import OverlapOptions
from ctxkit_filters.options import LengthOptions
from ctxkit_sources.options import FilesOptions, HubOptions, RepeatsOptions
from tests.unit.train.builders import (
    Scripted,
    Texts,
    byte_tokenizer,
    contents,
    ids_of,
    keys_of,
    prepare,
    rows_folder,
    section,
    store_folder,
)

pytestmark = pytest.mark.torch


def files(folder: Path, weight: float | None = None) -> FilesOptions:
    """The text files of a folder."""
    return FilesOptions(kind="files", paths=(f"{folder}/*.txt",), weight=weight)


def test_special_tokens_in_a_text_stay_text(tmp_path: Path) -> None:
    """A document that spells the end token does not end; only the real end is the control id."""
    (tmp_path / "a.txt").write_text("one <eos> two")
    tokenizer = byte_tokenizer()
    (ids,) = ids_of(prepare(section(files(tmp_path), length=64), tmp_path))
    assert ids.count(tokenizer.eos_token_id) == 1
    assert ids[-1] == tokenizer.eos_token_id
    assert tokenizer.decode(ids[:-1]) == "one <eos> two"


def test_begin_token_is_put_where_the_tokenizer_has_one(tmp_path: Path) -> None:
    """With a begin token every document starts with it, once."""
    (tmp_path / "a.txt").write_text("text")
    begun = byte_tokenizer(bos=True)
    (ids,) = ids_of(prepare(section(files(tmp_path), length=64), tmp_path, begun))
    assert ids == [begun.bos_token_id, *begun("text")["input_ids"], begun.eos_token_id]


def test_overlapped_tokens_are_masked_in_the_labels(tmp_path: Path) -> None:
    """Windows of 8 that share 3: the second row trains its last 5 tokens only."""
    (tmp_path / "a.txt").write_text("abcdefghijkl")  # and an end token: 13
    first, second = prepare(section(files(tmp_path), length=8, overlap=3), tmp_path).train
    assert first["labels"].tolist() == first["input_ids"].tolist()
    assert second["labels"].tolist() == [-100] * 3 + second["input_ids"][3:].tolist()
    assert second["input_ids"][:3].tolist() == first["input_ids"][5:].tolist()
    assert [len(row["input_ids"]) for row in (first, second)] == [8, 8]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lengths=st.lists(st.integers(0, 60), min_size=1, max_size=6),
    window=st.integers(4, 20),
    overlap=st.integers(0, 3),
    max_tokens=st.none() | st.integers(1, 200),
    repeat=st.booleans(),
)
def test_tokens_read_are_trained_unused_or_dropped(
    lengths: list[int],
    window: int,
    overlap: int,
    max_tokens: int | None,
    repeat: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """For any files the ledger adds up, and what it says is trained is what the rows hold unmasked."""
    folder = tmp_path_factory.mktemp("ledger")
    for number, length in enumerate(lengths):
        (folder / f"{number}.txt").write_text("x" * length)
    chunker = OverlapOptions(kind="overlap", length=window, overlap=overlap, train_on_overlap=repeat)
    try:
        prepared = prepare(DataSection(sources=(files(folder),), chunker=chunker, max_tokens=max_tokens), folder)
    except DataError:
        assert all(length == 0 for length in lengths)
        return
    (ledger,) = prepared.manifest["sources"]
    assert ledger["tokens_read"] == ledger["tokens_kept"] + ledger["tokens_unused"] + sum(ledger["dropped"].values())
    assert ledger["tokens_unused"] >= 0
    assert ledger["tokens_kept"] == ledger["tokens_trained"] - (ledger["tokens_repeated"] if repeat else 0)
    labels = [row["labels"] for row in prepared.train]
    trained = sum(int((row != -100).sum()) for row in labels)
    assert trained == prepared.manifest["train"]["tokens_trained"] == ledger["tokens_trained"]
    assert sum(int((row == -100).sum()) for row in labels) == ledger["tokens_masked"]
    if max_tokens is None:
        assert ledger["tokens_unused"] == 0


def test_weights_mix_by_tokens(tmp_path: Path) -> None:
    """Sources with weights 3 and 1 give tokens 3 to 1, as many as the scarcer one allows, though rows differ."""
    long = RepeatsOptions(kind="repeats", documents=30, length=99, weight=3)  # 3,000 tokens
    short = RepeatsOptions(kind="repeats", documents=500, length=19, weight=1)  # 10,000 tokens
    first, second = prepare(section(long, short, length=100), tmp_path).manifest["sources"]
    assert first["tokens_trained"] == 3000
    assert second["tokens_trained"] == 1000
    assert second["tokens_unused"] == 9000


def test_max_tokens_is_shared_by_weight_and_stops_reading(tmp_path: Path) -> None:
    """A budget of 1,000 tokens is split 1 to 1, and a source of millions is not read to its end."""
    sources = [RepeatsOptions(kind="repeats", documents=10**7 + n, length=19, weight=1) for n in range(2)]
    for ledger in prepare(section(*sources, length=20, max_tokens=1000), tmp_path).manifest["sources"]:
        assert ledger["tokens_trained"] == 500
        assert ledger["documents"] < 200


def test_sources_without_weights_are_used_up_in_order(tmp_path: Path) -> None:
    """Without weights the first source is used whole before the second is."""
    sources = [RepeatsOptions(kind="repeats", documents=20, length=19) for _ in range(2)]
    manifest = prepare(section(*sources, length=20, max_tokens=500), tmp_path).manifest
    assert [ledger["tokens_trained"] for ledger in manifest["sources"]] == [400, 100]


def test_chunker_that_loses_tokens_is_found_out(tmp_path: Path) -> None:
    """Tokens that a chunker neither hands on nor reports are an error, not a number under another name."""

    class Lossy(Scripted):
        """Keeps the first chunk of each document."""

        @staticmethod
        def made(context: Context, documents: Iterable[EncodedDocument]) -> Iterator[Chunk]:
            whole = OverlapOptions(kind="overlap", length=16).build(context)
            return (next(iter(whole([document]))) for document in documents)

    source = RepeatsOptions(kind="repeats", documents=3, length=40)
    with pytest.raises(DataError, match="chunker scripted left out 75 of 123 tokens without saying so"):
        prepare(section(source, chunker=Lossy(length=16)), tmp_path)


def test_documents_of_one_id_are_counted_apart(tmp_path: Path) -> None:
    """Rows of a table may share an id; the ledger still adds up, and nothing counts as repeated."""
    rows = "".join(json.dumps({"text": "x" * 10, "name": "same"}) + "\n" for _ in range(3))
    (tmp_path / "rows.jsonl").write_text(rows)
    source = HubOptions(kind="hub", path="json", data_files=str(tmp_path / "rows.jsonl"), id_column="name")
    (ledger,) = prepare(section(source, length=16), tmp_path).manifest["sources"]
    assert (ledger["tokens_trained"], ledger["tokens_repeated"], ledger["tokens_unused"]) == (33, 0, 0)


def test_filtered_documents_are_counted_by_reason(tmp_path: Path) -> None:
    """What a filter drops is in the manifest, with its reason."""
    (tmp_path / "a.txt").write_text("short")
    (tmp_path / "b.txt").write_text("long enough")
    judge = LengthOptions(kind="length", min_characters=8)
    (ledger,) = prepare(section(files(tmp_path), filters=(judge,)), tmp_path).manifest["sources"]
    assert ledger["filtered_documents"] == {"shorter than 8 characters": 1}
    assert (ledger["documents_read"], ledger["documents"]) == (2, 1)


def test_same_seed_same_rows(tmp_path: Path) -> None:
    """Prepared twice, all files are equal byte for byte; another seed gives other tokens."""
    source = RepeatsOptions(kind="repeats", documents=20, length=40)
    made = {}
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        (tmp_path / name).mkdir()
        made[name] = ids_of(prepare(section(source), tmp_path / name, seed=seed))
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert made["a"] == made["b"] != made["c"]
    assert store_folder(tmp_path / "a").name != store_folder(tmp_path / "c").name


def test_half_prepared_data_is_thrown_away(tmp_path: Path) -> None:
    """What a killed preparation left is not taken for data, and does not stay."""
    data = section(RepeatsOptions(kind="repeats", documents=2, length=16), length=17)
    key = keys_of(data, Context(tokenizer=byte_tokenizer()), tmp_path).rows
    left = tmp_path / f"data/{key}.tmp-new"
    left.mkdir(parents=True)
    (left / "train.arrow").write_bytes(b"half")
    (left / "strange.arrow").write_bytes(b"half")
    assert len(prepare(data, tmp_path).train) == 2
    assert not left.exists()
    assert not (rows_folder(tmp_path) / "strange.arrow").exists()


def test_tokenizer_without_end_token_is_refused(tmp_path: Path) -> None:
    """Documents could not be told apart; the message says so."""
    endless = PreTrainedTokenizerFast(tokenizer_object=byte_tokenizer().backend_tokenizer)
    data = section(RepeatsOptions(kind="repeats", documents=2, length=16))
    with pytest.raises(DataError, match="no end-of-text token"):
        prepare(data, tmp_path, endless)


def test_rows_are_numpy_arrays(tmp_path: Path) -> None:
    """TRL's collator makes tensors of them without a detour over Python lists."""
    row = prepare(section(RepeatsOptions(kind="repeats", documents=1, length=16), length=17), tmp_path).train[0]
    assert isinstance(row["input_ids"], np.ndarray)
    assert row["input_ids"].dtype == row["labels"].dtype == np.int64
    assert set(row) == {"input_ids", "labels"}


def test_half_a_character_is_refused(tmp_path: Path) -> None:
    """A lone surrogate, which no tokenizer takes, is named with its document and place."""
    with pytest.raises(DataError, match=r"holds half a character \(U\+D83D\) at 3"):
        prepare(section(Texts(texts=("fine", "abc\ud83d"))), tmp_path)


def test_source_is_closed_when_a_budget_is_full(tmp_path: Path) -> None:
    """A source that is not read to its end is closed at once: it may hold processes, which must not outlive it."""
    closed = []

    class Endless(SourceOptions):
        """Never comes to an end."""

        kind: Literal["endless"] = "endless"

        def build(self, context: Context) -> Iterator[Document]:
            try:
                for number in range(10**9):
                    yield Document("x" * 40, f"{number}")
            finally:
                closed.append(True)

    prepare(section(Endless(), max_tokens=100), tmp_path)
    assert closed == [True]


def test_what_is_no_document_is_named(tmp_path: Path) -> None:
    """A source that gives something else is told so, by its kind."""

    class Wrong(SourceOptions):
        """Gives text alone."""

        kind: Literal["wrong"] = "wrong"

        def build(self, context: Context) -> Iterator[str]:
            yield "text"

    with pytest.raises(DataError, match="the source wrong gave str after 0 documents"):
        prepare(section(Wrong()), tmp_path)
