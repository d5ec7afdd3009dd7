"""From documents to rows: what is trained and masked, how sources are mixed, and that every token is accounted for."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from ctxkit.errors import DataError
from ctxkit.recipe import DataSection
from ctxkit.spec import Context
from ctxkit.train.data import build_dataset, data_key
from ctxkit_chunkers.options import OverlapOptions
from ctxkit_filters.options import LengthOptions
from ctxkit_sources.options import FilesOptions, RepeatsOptions

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    """One token a byte, with an end token that texts may try to forge."""
    built = Tokenizer(models.BPE())
    built.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    built.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<eos>", "<bos>"]
    built.train_from_iterator(
        [], trainers.BpeTrainer(vocab_size=258, special_tokens=special, initial_alphabet=alphabet)
    )
    return PreTrainedTokenizerFast(tokenizer_object=built, eos_token="<eos>")


def section(*sources: object, length: int = 16, overlap: int = 0, **more: object) -> DataSection:
    """A data section with the overlap chunker."""
    chunker = OverlapOptions(kind="overlap", length=length, overlap=overlap)
    return DataSection(sources=sources, chunker=chunker, **more)


def files(folder: Path, weight: float | None = None) -> FilesOptions:
    """The text files of a folder."""
    return FilesOptions(kind="files", paths=(f"{folder}/*.txt",), weight=weight)


def manifest(folder: Path) -> dict:
    """What the manifest says."""
    return json.loads((folder / "manifest.json").read_text())


def test_special_tokens_in_a_text_stay_text(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    """A document that spells the end token does not end; only the real end is the control id."""
    (tmp_path / "a.txt").write_text("one <eos> two")
    rows = build_dataset(section(files(tmp_path), length=64), Context(tokenizer=tokenizer), tmp_path / "out")
    ids = rows[0]["input_ids"]
    assert ids.count(tokenizer.eos_token_id) == 1
    assert ids[-1] == tokenizer.eos_token_id
    assert tokenizer.decode(ids[:-1]) == "one <eos> two"


def test_begin_token_is_put_where_the_tokenizer_has_one(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    """With a begin token every document starts with it, once."""
    (tmp_path / "a.txt").write_text("text")
    begun = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, eos_token="<eos>", bos_token="<bos>")
    rows = build_dataset(section(files(tmp_path), length=64), Context(tokenizer=begun), tmp_path / "out")
    assert rows[0]["input_ids"] == [begun.bos_token_id, *begun("text")["input_ids"], begun.eos_token_id]


def test_overlapped_tokens_are_masked_in_the_labels(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    """Windows of 8 that share 3: the second row trains its last 5 tokens only."""
    (tmp_path / "a.txt").write_text("abcdefghijkl")  # and an end token: 13
    rows = build_dataset(section(files(tmp_path), length=8, overlap=3), Context(tokenizer=tokenizer), tmp_path / "out")
    assert [len(row["input_ids"]) for row in rows] == [8, 8]
    assert rows[0]["labels"] == rows[0]["input_ids"]
    assert rows[1]["labels"] == [-100] * 3 + rows[1]["input_ids"][3:]
    assert rows[1]["input_ids"][:3] == rows[0]["input_ids"][5:]


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
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
    tokenizer: PreTrainedTokenizerFast,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """For any documents the ledger adds up, and what it says is trained is what the rows hold unmasked."""
    folder = tmp_path_factory.mktemp("ledger")
    for number, length in enumerate(lengths):
        (folder / f"{number}.txt").write_text("x" * length)
    chunker = OverlapOptions(kind="overlap", length=window, overlap=overlap, train_on_overlap=repeat)
    data = DataSection(sources=(files(folder),), chunker=chunker, max_tokens=max_tokens)
    try:
        rows = build_dataset(data, Context(tokenizer=tokenizer), folder / "out")
    except DataError:
        assert all(length == 0 for length in lengths)
        return
    said = manifest(folder / "out")
    (ledger,) = said["sources"]
    spent = ledger["tokens_trained"] - ledger["tokens_repeated"] + ledger["tokens_unused"]
    assert ledger["tokens_read"] == spent + sum(ledger["dropped"].values())
    assert ledger["tokens_unused"] >= 0
    assert repeat or ledger["tokens_repeated"] == 0
    labels = [np.array(row["labels"]) for row in rows]
    assert sum(int((row != -100).sum()) for row in labels) == said["tokens"] == ledger["tokens_trained"]
    assert sum(int((row == -100).sum()) for row in labels) == ledger["tokens_context"]
    if max_tokens is None:
        assert ledger["tokens_unused"] == 0


def test_weights_mix_by_tokens(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    """Sources with weights 3 and 1 give tokens 3 to 1, as many as the scarcer one allows, though rows differ."""
    long = RepeatsOptions(kind="repeats", documents=30, length=99, weight=3)  # 3,000 tokens
    short = RepeatsOptions(kind="repeats", documents=500, length=19, weight=1)  # 10,000 tokens
    build_dataset(section(long, short, length=100), Context(tokenizer=tokenizer), tmp_path / "out")
    first, second = manifest(tmp_path / "out")["sources"]
    assert first["tokens_trained"] == 3000
    assert second["tokens_trained"] == 1000
    assert second["tokens_unused"] == 9000


def test_max_tokens_is_shared_by_weight_and_stops_reading(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    """A budget of 1,000 tokens is split 1 to 1, and a source of millions is not read to its end."""
    sources = [RepeatsOptions(kind="repeats", documents=10**7, length=19, weight=1) for _ in range(2)]
    build_dataset(section(*sources, length=20, max_tokens=1000), Context(tokenizer=tokenizer), tmp_path / "out")
    for ledger in manifest(tmp_path / "out")["sources"]:
        assert ledger["tokens_trained"] == 500
        assert ledger["documents"] < 200


def test_sources_without_weights_are_used_up_in_order(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    """Without weights the first source is used whole before the second is."""
    sources = [RepeatsOptions(kind="repeats", documents=20, length=19) for _ in range(2)]
    build_dataset(section(*sources, length=20, max_tokens=500), Context(tokenizer=tokenizer), tmp_path / "out")
    assert [ledger["tokens_trained"] for ledger in manifest(tmp_path / "out")["sources"]] == [400, 100]


def test_chunker_that_loses_tokens_is_found_out(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    """Tokens that a chunker neither hands on nor reports are an error, not a number under another name."""
    from ctxkit.spec import ChunkerOptions

    class Lossy(ChunkerOptions):
        """Keeps the first chunk of each document."""

        def build(self, context: Context):
            whole = OverlapOptions(kind="overlap", length=self.length).build(context)
            return lambda documents: (next(iter(whole([document]))) for document in documents)

    source = RepeatsOptions(kind="repeats", documents=3, length=40)
    data = DataSection.model_construct(
        sources=(source,), filters=(), chunker=Lossy(kind="lossy", length=16), max_tokens=None
    )
    with pytest.raises(DataError, match="chunker lossy left out 75 of 123 tokens without saying so"):
        build_dataset(data, Context(tokenizer=tokenizer), tmp_path / "out")


def test_documents_of_one_id_are_counted_apart(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    """Rows of a table may share an id; the ledger still adds up, and nothing counts as repeated."""
    from ctxkit_sources.options import HubOptions

    rows = "".join(json.dumps({"text": "x" * 10, "name": "same"}) + "\n" for _ in range(3))
    (tmp_path / "rows.jsonl").write_text(rows)
    source = HubOptions(kind="hub", path="json", data_files=str(tmp_path / "rows.jsonl"), id_column="name")
    build_dataset(section(source, length=16), Context(tokenizer=tokenizer), tmp_path / "out")
    (ledger,) = manifest(tmp_path / "out")["sources"]
    assert (ledger["tokens_trained"], ledger["tokens_repeated"], ledger["tokens_unused"]) == (33, 0, 0)


def test_filtered_documents_are_counted_by_reason(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    """What a filter drops is in the manifest, with its reason."""
    (tmp_path / "a.txt").write_text("short")
    (tmp_path / "b.txt").write_text("long enough")
    judge = LengthOptions(kind="length", min_characters=8)
    build_dataset(section(files(tmp_path), filters=(judge,)), Context(tokenizer=tokenizer), tmp_path / "out")
    (ledger,) = manifest(tmp_path / "out")["sources"]
    assert ledger["filtered_documents"] == {"shorter than 8 characters": 1}
    assert ledger["documents"] == 1


def test_same_seed_same_rows(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    """Prepared twice, the files are equal byte for byte; another seed gives others."""
    source = RepeatsOptions(kind="repeats", documents=20, length=40)
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        build_dataset(section(source), Context(tokenizer=tokenizer, seed=seed), tmp_path / name)
    contents = [(tmp_path / name / "000.arrow").read_bytes() for name in "abc"]
    assert contents[0] == contents[1] != contents[2]


def test_half_prepared_data_is_thrown_away(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    """What a killed preparation left is not taken for data, and does not stay."""
    left = tmp_path / "out.tmp-new"
    left.mkdir()
    (left / "000.arrow").write_bytes(b"half")
    rows = build_dataset(
        section(RepeatsOptions(kind="repeats", documents=2, length=16), length=17),
        Context(tokenizer=tokenizer),
        tmp_path / "out",
    )
    assert len(rows) == 2
    assert not left.exists()


def test_key_changes_with_everything_that_changes_the_rows(tmp_path: Path) -> None:
    """Options, component sources, seed and tokenizer each give another key; nothing else does."""
    tokenizer = tmp_path / "tokenizer"
    tokenizer.mkdir()
    (tokenizer / "tokenizer.json").write_text("{}")
    base = section(RepeatsOptions(kind="repeats", documents=2, length=16))
    other = section(RepeatsOptions(kind="repeats", documents=3, length=16))
    keys = {
        data_key(base, tokenizer, {"a": "1"}, 0),
        data_key(other, tokenizer, {"a": "1"}, 0),
        data_key(base, tokenizer, {"a": "2"}, 0),
        data_key(base, tokenizer, {"a": "1"}, 1),
    }
    same = data_key(base, tokenizer, {"a": "1"}, 0)
    (tokenizer / "tokenizer.json").write_text('{"changed": true}')
    keys.add(data_key(base, tokenizer, {"a": "1"}, 0))
    assert len(keys) == 5
    assert same in keys


def test_tokenizer_without_end_token_is_refused(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    """Documents could not be told apart; the message says so."""
    endless = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer)
    data = section(RepeatsOptions(kind="repeats", documents=2, length=16))
    with pytest.raises(DataError, match="no end-of-text token"):
        build_dataset(data, Context(tokenizer=endless), tmp_path / "out")
