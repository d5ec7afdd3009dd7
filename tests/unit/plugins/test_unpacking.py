"""Packed files made to fill memory or disk stop at a limit; ordinary ones are read whole."""

from __future__ import annotations

import bz2
import gzip
import lzma
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from ctxkit.errors import DataError
from ctxkit.spec import Context
from ctxkit_sources import unpacking
from ctxkit_sources.options import HubOptions

PIECE = b"0" * (1 << 20)


@pytest.fixture
def lower(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lower the limit, so that small bombs do."""
    monkeypatch.setattr(unpacking, "FREE_BYTES", 4 << 20)


def packed_by_arrow(name: str) -> Callable[[Path], None]:
    """Return what writes 12 MiB of zeros, packed."""

    def write(path: Path) -> None:
        with pa.output_stream(str(path), compression=name) as file:
            for _ in range(12):
                file.write(PIECE)

    return write


def packed(opened: Callable[..., object]) -> Callable[[Path], None]:
    """Return what writes 12 MiB of zeros, packed."""

    def write(path: Path) -> None:
        with opened(str(path), "wb") as file:  # type: ignore[attr-defined]
            for _ in range(12):
                file.write(PIECE)

    return write


BOMBS: dict[str, tuple[str, Callable[[Path], None]]] = {
    ".jsonl.gz": ("json", packed(gzip.open)),
    ".txt.bz2": ("text", packed(bz2.open)),
    ".csv.xz": ("csv", packed(lzma.open)),
    ".txt.zst": ("text", packed_by_arrow("zstd")),
    ".jsonl.lz4": ("json", packed_by_arrow("lz4")),
}


@pytest.mark.usefixtures("lower")
@pytest.mark.parametrize("ending", BOMBS)
def test_bomb(ending: str, tmp_path: Path) -> None:
    """It stops at the limit, which it would unpack from less than a hundredth, and says what to do."""
    loader, write = BOMBS[ending]
    write(tmp_path / f"x{ending}")
    began = time.process_time()
    with pytest.raises(DataError, match=r"unpacks to more than [\d,]+ bytes, from [\d,]+: over 100 times its size"):
        list(HubOptions(kind="hub", path=loader, data_files=str(tmp_path / f"x{ending}")).build(Context()))
    assert time.process_time() - began < 10


@pytest.mark.usefixtures("lower")
def test_bomb_of_columns(tmp_path: Path) -> None:
    """Of parquet, the footer says it before a page is read."""
    table = pa.table({"text": ["a" * (1 << 20) + str(number) for number in range(10)]})
    parquet.write_table(table, tmp_path / "x.parquet", compression="zstd", use_dictionary=False)
    with pytest.raises(DataError, match="over 100 times its size"):
        list(HubOptions(kind="hub", path="parquet", data_files=str(tmp_path / "x.parquet")).build(Context()))


def test_small_files_may_unpack_to_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Below the limit nothing is refused, however well it packs; at it, a byte more is."""
    (tmp_path / "x.txt.gz").write_bytes(gzip.compress(b"0" * 1_000_000))
    options = HubOptions(kind="hub", path="text", data_files=str(tmp_path / "x.txt.gz"))
    assert [len(document.text) for document in options.build(Context())] == [1_000_000]
    monkeypatch.setattr(unpacking, "FREE_BYTES", 1_000_000)
    assert len(list(options.build(Context()))) == 1
    monkeypatch.setattr(unpacking, "FREE_BYTES", 999_999)
    with pytest.raises(DataError, match="unpacks to more than"):
        list(options.build(Context()))


ANSWER = "__import__('pathlib').Path('MARK').touch()"


def test_answers_of_a_dataset_are_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that is Python is compared word by word, and never run."""
    from ctxkit_evals.long_qa_scoring import scored

    monkeypatch.chdir(tmp_path)
    assert scored("exact_match", ANSWER, [ANSWER]) == 1.0
    assert scored("f1", "no", [ANSWER]) == 0.0
    assert not (tmp_path / "MARK").exists()
