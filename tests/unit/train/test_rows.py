"""Rows on disk: damage is noticed, tokens come from the store on demand, in any process, at the stated cost."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerFast

from ctxkit.recipe import EvalSplit, Packing
from ctxkit.spec import Context, Document, SourceOptions
from ctxkit.train.rows import FORMAT, Gather, open_rows
from ctxkit_report import manifest as report
from tests.unit.train.builders import Texts, contents, ids_of, prepare, rows_folder, samples_of, section

pytestmark = pytest.mark.torch

DATA = section(Texts(lengths=tuple(range(1, 60))), overlap=4, packing=Packing(length=64), eval=EvalSplit(share=0.2))


def test_report_knows_the_format() -> None:
    """A format that was raised here is raised in the report too, which would call every new manifest a stranger."""
    assert report.FORMAT == FORMAT


def damaged(path: Path, share: float) -> None:
    """Flip one bit of one byte."""
    data = bytearray(path.read_bytes())
    data[int(share * (len(data) - 1))] ^= 4
    path.write_bytes(data)


@pytest.mark.parametrize("share", [0, 0.37, 0.8])
@pytest.mark.parametrize("name", ["train.arrow", "eval.arrow", "manifest.json", "samples.json", "ids.bin"])
def test_one_altered_byte_is_noticed(name: str, share: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In whichever file: the rows are not read, and preparing again gives what was there."""
    expected = ids_of(prepare(DATA, tmp_path))
    before = contents(tmp_path / "data")
    (path,) = (tmp_path / "data").rglob(name)
    damaged(path, share)
    assert open_rows(rows_folder(tmp_path)) is None
    monkeypatch.setattr(Texts, "given", [])
    assert ids_of(prepare(DATA, tmp_path)) == expected
    assert contents(tmp_path / "data") == before
    assert bool(Texts.given) == (name == "ids.bin"), "the source is read again only where its tokens are damaged"


@pytest.mark.parametrize("name", ["train.arrow", "manifest.json", "inserted.bin", "ids.bin"])
@pytest.mark.parametrize("how", ["cut", "missing"])
def test_missing_and_cut_files_are_noticed(name: str, how: str, tmp_path: Path) -> None:
    """A copy that ended early, or that left a file behind."""
    expected = ids_of(prepare(DATA, tmp_path))
    (path,) = (tmp_path / "data").rglob(name)
    folder = rows_folder(tmp_path)
    if how == "missing":
        path.unlink()
    elif path.stat().st_size:
        os.truncate(path, path.stat().st_size - 2)
    assert (open_rows(folder) is None) == (how == "missing" or name != "inserted.bin")
    assert ids_of(prepare(DATA, tmp_path)) == expected


def test_whole_rows_are_not_prepared_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opened a second time, nothing is read and nothing written."""
    expected = ids_of(prepare(DATA, tmp_path))
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    monkeypatch.setattr(Texts, "given", [])
    assert ids_of(prepare(DATA, tmp_path)) == expected
    assert not Texts.given
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == times


def test_folder_may_be_moved(tmp_path: Path) -> None:
    """A run directory that was copied elsewhere is read there, and not where it was."""
    expected = ids_of(prepare(DATA, tmp_path / "here"))
    (tmp_path / "here").rename(tmp_path / "there")
    moved = open_rows(rows_folder(tmp_path / "there"))
    assert moved is not None
    assert ids_of(moved) == expected


def as_lists(examples: list[dict]) -> list[tuple[list[int], list[int]]]:
    """Collate nothing."""
    return [(example["input_ids"].tolist(), example["labels"].tolist()) for example in examples]


def test_data_loader_with_processes(tmp_path: Path) -> None:
    """Two workers, forked from a process that has the files open, give the same rows."""
    train = prepare(DATA, tmp_path).train
    expected = as_lists([train[number] for number in range(len(train))])
    loader = DataLoader(train, batch_size=4, num_workers=2, collate_fn=as_lists, multiprocessing_context="fork")
    assert [row for batch in loader for row in batch] == expected
    assert as_lists(list(pickle.loads(pickle.dumps(train)))) == expected, "as a spawned worker gets it"  # noqa: S301


def test_gather_pickles_without_its_open_files(tmp_path: Path) -> None:
    """A copy in another process opens files of its own."""
    np.arange(10, dtype="<u2").tofile(tmp_path / "ids.bin")
    gather = Gather([(tmp_path / "ids.bin", "<u2")])
    assert gather.ids([2], [3]).tolist() == [2, 3, 4]
    copy = pickle.loads(pickle.dumps(gather))  # noqa: S301
    assert copy._open == {}
    assert copy.ids([7, 0], [2, 1]).tolist() == [7, 8, 0]


def test_other_columns_stay_readable(tmp_path: Path) -> None:
    """A sampler that groups rows by length reads that column alone, without any tokens."""
    train = prepare(DATA, tmp_path).train
    assert train.select_columns(["length"])[:]["length"] == [len(row["input_ids"]) for row in train]


class Numbers(SourceOptions):
    """Documents of words that are numbers."""

    kind: Literal["numbers"] = "numbers"
    documents: int
    words: int
    vocabulary: int = 40_000

    def build(self, context: Context) -> Iterator[Document]:
        """Yield the documents."""
        draw = np.random.default_rng(context.seed)
        for number in range(self.documents):
            words = draw.integers(1, self.vocabulary, self.words - 1)
            yield Document(" ".join(map(str, words)), f"folder/of/some/depth/file_{number:06}.py", group="repository")


def words_tokenizer(size: int) -> PreTrainedTokenizerFast:
    """A token for each number."""
    words = Tokenizer(models.WordLevel({"<eos>": 0} | {str(number): number for number in range(1, size)}, "<eos>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<eos>")


@pytest.mark.parametrize(("size", "width"), [(65_536, 2), (65_537, 4)])
def test_width_follows_the_vocabulary(size: int, width: int, tmp_path: Path) -> None:
    """Two bytes a token up to 65,536 tokens and four beyond; the largest ids come back as they were."""
    source = Texts(texts=(f"1 {size - 1} 2", f"{size - 1}"))
    prepared = prepare(section(source), tmp_path, words_tokenizer(size))
    assert ids_of(prepared) == [[1, size - 1, 2, 0], [size - 1, 0]]
    assert prepared.manifest["largest_id"] == size - 1
    assert prepared.manifest["tokenizer"] == {"vocab_size": size, "dtype": {2: "<u2", 4: "<i4"}[width]}
    (ids,) = (tmp_path / "data").rglob("ids.bin")
    assert ids.stat().st_size == 6 * width


@pytest.mark.parametrize(("words", "most"), [(30_000, 4.1), (1000, 4.6)])
def test_bytes_a_token(words: int, most: float, tmp_path: Path) -> None:
    """Everything on the disk, index, names and rows included, for 600,000 tokens of four bytes, packed at 32k."""
    source = Numbers(documents=600_000 // words, words=words)
    data = section(source, length=32_768, packing=Packing())
    prepare(data, tmp_path, words_tokenizer(65_537))
    samples = next((tmp_path / "data").glob("*/samples.json")).stat().st_size  # a few rows, however much there is
    size = sum(path.stat().st_size for path in (tmp_path / "data").rglob("*") if path.is_file()) - samples
    assert size / 600_000 <= most < 6


def test_samples_name_the_source(tmp_path: Path) -> None:
    """Two sources of one kind are told apart by their numbers, in the samples as in the account of the mix."""
    made = prepare(section(Texts(lengths=(9,)), Texts(lengths=(9,))), tmp_path)
    assert [sample["source"] for sample in samples_of(tmp_path)] == ["texts (1)", "texts (2)"]
    assert [part["name"] for part in made.manifest["mix"]["sources"]] == ["texts (1)", "texts (2)"]
