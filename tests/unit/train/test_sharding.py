"""Parts of a token store, made apart, are put together to what one process makes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ctxkit.spec import Context, Document
from ctxkit.train import documents as documents_module
from ctxkit.train.documents import Reading, SourceDocuments, Tokenisation
from ctxkit.train.sharding import Shard, merge
from ctxkit.train.tokens import TokenStore
from tests.unit.train.builders import Texts, byte_tokenizer, contents

pytestmark = pytest.mark.torch

UINT16 = np.dtype("<u2")
TOKENISATION = Tokenisation(byte_tokenizer())
SOURCE = Texts(
    texts=tuple(f"{'<eos>' if number % 9 == 0 else 'x'} {number}" * (number % 7) for number in range(53)),
    bad=(0, 1, 1, 1, 7, 20, 53, 53),
)


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents_module, "BATCH_DOCUMENTS", 5)
    monkeypatch.setattr(documents_module, "COMMIT_SECONDS", -1)
    monkeypatch.setattr(os, "fsync", lambda _: None)


def drop_some(document: Document) -> str | None:
    """A filter."""
    return "divides by four" if document.order % 4 == 0 else None


def read(folder: Path, shard: tuple[int, int] = (0, 1), until: int | None = None) -> None:
    """Read a source, or a part of it, to its end or for so many batches."""
    how = Reading(Context(tokenizer=byte_tokenizer()), (drop_some,), keep_texts=True, shard=shard)
    documents = SourceDocuments(SOURCE, TokenStore(folder, UINT16), TOKENISATION, how)
    for number, _ in enumerate(documents.read_all()):
        if number + 1 == until:
            break
    documents.close()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The store as one process makes it."""
    folder = tmp_path_factory.mktemp("whole")
    read(folder / "store")
    return contents(folder / "store")


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What was said meanwhile."""
    lines: list[str] = []
    monkeypatch.setattr("ctxkit.train.sharding.say", lines.append)
    return lines


@pytest.mark.parametrize("count", [1, 2, 3, 5, 60])
def test_parts_give_the_same_bytes(count: int, tmp_path: Path, whole: dict[str, bytes]) -> None:
    """However many parts, in whatever order they were made, with filters, special tokens and what was skipped."""
    for index in reversed(range(count)):
        read(tmp_path / Shard(index, count).name("store"), (index, count))
    merge(tmp_path / "store", UINT16)
    assert contents(tmp_path / "store") == whole
    assert [path.name for path in tmp_path.iterdir()] == ["store"], "the parts are gone"


def test_part_that_was_killed_goes_on(tmp_path: Path, whole: dict[str, bytes]) -> None:
    """A part continues where it was, in a second process."""
    for index in range(2):
        part = tmp_path / Shard(index, 2).name("store")
        read(part, (index, 2), until=2)
        assert not TokenStore(part, UINT16).exhausted
        read(part, (index, 2))
    merge(tmp_path / "store", UINT16)
    assert contents(tmp_path / "store") == whole


def test_missing_part_is_said_and_the_others_stay(tmp_path: Path, said: list[str]) -> None:
    """With one of three parts missing nothing is put together; what is there stays for later."""
    for index in (0, 2):
        read(tmp_path / Shard(index, 3).name("store"), (index, 3))
    before = contents(tmp_path)
    merge(tmp_path / "store", UINT16)
    assert contents(tmp_path) == before
    assert len(said) == 1
    assert said[0].startswith("2 of 3 parts of store are ready")


def test_unfinished_part_is_said_and_not_touched(tmp_path: Path, said: list[str], whole: dict[str, bytes]) -> None:
    """Another process may be writing it at this moment: not a byte of it is cut off."""
    read(tmp_path / Shard(0, 2).name("store"), (0, 2))
    part = tmp_path / Shard(1, 2).name("store")
    how = Reading(Context(tokenizer=byte_tokenizer()), (drop_some,), keep_texts=True, shard=(1, 2))
    writing = SourceDocuments(SOURCE, TokenStore(part, UINT16), TOKENISATION, how)
    merge(tmp_path / "store", UINT16)  # before its first commit
    writing.get(7)
    writing.store.append_ids(np.arange(5, dtype=np.int32))  # beyond the last commit
    before = contents(tmp_path)
    merge(tmp_path / "store", UINT16)
    assert contents(tmp_path) == before
    assert all(line.startswith("1 of 2 parts of store are ready") for line in said)
    assert len(said) == 2
    writing.store.close()
    read(part, (1, 2))
    merge(tmp_path / "store", UINT16)
    assert contents(tmp_path / "store") == whole


def test_damaged_part_is_not_put_together(tmp_path: Path, said: list[str]) -> None:
    """A part that a failing disk altered is not taken for whole."""
    for index in range(2):
        read(tmp_path / Shard(index, 2).name("store"), (index, 2))
    ids = tmp_path / Shard(1, 2).name("store") / "ids.bin"
    data = bytearray(ids.read_bytes())
    data[5] ^= 1
    ids.write_bytes(data)
    merge(tmp_path / "store", UINT16)
    assert not (tmp_path / "store").exists()
    assert said[0].startswith("1 of 2 parts")


@pytest.mark.parametrize("stray", [2, 5])
def test_part_of_another_count_is_in_nobodys_way(
    stray: int, tmp_path: Path, said: list[str], whole: dict[str, bytes]
) -> None:
    """Of a try with fewer or more parts, one is left: nothing is said of it, and it goes when the store is whole.

    Not at once: another process may be writing it.
    """
    for shard in (Shard(0, stray), *(Shard(index, 3) for index in range(3))):
        read(tmp_path / shard.name("store"), (shard.index, shard.count))
    merge(tmp_path / "store", UINT16)
    assert contents(tmp_path / "store") == whole
    assert {path.name for path in tmp_path.iterdir()} == {"store", Shard(0, stray).name("store")}
    merge(tmp_path / "store", UINT16)
    assert [path.name for path in tmp_path.iterdir()] == ["store"]
    assert not said


def test_parts_replace_a_store_that_was_begun(tmp_path: Path, whole: dict[str, bytes]) -> None:
    """A store of a few documents, from a look at the data, gives way to the whole one."""
    read(tmp_path / "store", until=1)
    for index in range(2):
        read(tmp_path / Shard(index, 2).name("store"), (index, 2))
    shutil.copytree(tmp_path / "store", tmp_path / "store.tmp-merged")  # of a kill
    merge(tmp_path / "store", UINT16)
    assert contents(tmp_path / "store") == whole
