"""Prepared rows on disk: each names where its tokens lie; ids and labels are put together when they are asked for.

A folder holds `train.arrow` and, where documents are set aside, `eval.arrow`, with the addresses of each row;
`inserted.bin` with the ids that chunkers added; and `manifest.json`, written last, with the hash of all of them and of
the tokens that they point at. A folder without a manifest, or with one that does not fit, is never read.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset
from datasets.arrow_writer import ArrowWriter
from numpy.typing import NDArray

from ctxkit.rundir import read_sealed, write_sealed
from ctxkit.spec import DIFFICULTIES
from ctxkit.train.chunks import PLACE_BITS, Inserted, SourceChunks
from ctxkit.train.tokens import prefix_digest, read_ids

FORMAT = 4
"""Raised whenever prepared data of an older version must not be read."""
MASKED = -100
"""The label that no loss counts, as torch and transformers have it."""
SPLITS = ("train", "eval")


@dataclass(frozen=True)
class Prepared:
    """Prepared data, ready to train on."""

    train: Dataset
    eval: Dataset | None
    manifest: dict[str, Any]


class Gather:
    """Put rows together from the token stores: what `Dataset.with_transform` calls with each batch of rows."""

    def __init__(self, files: Sequence[tuple[Path, str]], *, skips: bool = False) -> None:
        """Name the files of ids, each with the type of its ids, by their numbers in the addresses.

        With `skips` rows have `position_ids`, which jump.
        """
        self._files = tuple(files)
        self._skips = skips
        self._open: dict[int, int] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Leave open files behind: each process of a data loader opens its own."""
        return {"_files": self._files, "_skips": self._skips, "_open": {}}

    def __call__(self, batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        """Return `input_ids` and `labels` (int64, shape (tokens,) each) of rows.

        Packed rows also have `seq_lengths`; rows whose positions skip have `position_ids`, like ids.
        """
        if "starts" not in batch:
            return batch  # somebody asks for another column alone, such as the lengths
        ids = [self.ids(starts, counts) for starts, counts in zip(batch["starts"], batch["counts"], strict=True)]
        labels = [_labels(row, masked) for row, masked in zip(ids, batch["masked"], strict=True)]
        made: dict[str, list[Any]] = {"input_ids": ids, "labels": labels}
        if batch["seq_lengths"][0]:
            made["seq_lengths"] = batch["seq_lengths"]
        if self._skips:
            made["position_ids"] = [_positions(len(row), skips) for row, skips in zip(ids, batch["skips"], strict=True)]
        return made

    def ids(self, starts: Sequence[int], counts: Sequence[int]) -> NDArray[np.int64]:
        """Return the ids of a row from the addresses and tokens of its pieces."""
        ids = np.empty(sum(counts), dtype=np.int64)
        end = 0
        for start, count in zip(starts, counts, strict=True):
            file, place = start >> PLACE_BITS, start & ((1 << PLACE_BITS) - 1)
            ids[end : end + count] = read_ids(self._descriptor(file), np.dtype(self._files[file][1]), place, count)
            end += count
        return ids

    def _descriptor(self, file: int) -> int:
        if file not in self._open:
            self._open[file] = os.open(self._files[file][0], os.O_RDONLY | os.O_CLOEXEC)
        return self._open[file]


def _labels(ids: NDArray[np.int64], masked: Sequence[int]) -> NDArray[np.int64]:
    labels = ids.copy()
    for start, end in zip(masked[::2], masked[1::2], strict=True):
        labels[start:end] = MASKED
    return labels


def _positions(length: int, skips: Sequence[int]) -> NDArray[np.int64]:
    """Return the positions of a row from the places of its jumps and their sizes in tokens, in turn."""
    steps = np.ones(length, dtype=np.int64)
    steps[0] = 0
    for place, tokens in zip(skips[::2], skips[1::2], strict=True):
        steps[place] += tokens
    return np.cumsum(steps)


@dataclass(frozen=True)
class Split:
    """The chunks of a split and which of them share a row."""

    sources: Sequence[SourceChunks]
    chosen: Sequence[tuple[int, int]]
    rows: Sequence[Sequence[int]]
    """Numbers of chosen chunks."""
    document_mask: bool
    """Whether attention ends where a chunk does."""

    def write(self, path: Path) -> None:
        """Write one Arrow file: addresses, masks and lengths of each row."""
        with ArrowWriter(path=str(path), schema=pa.schema(list(_TYPES.items()))) as writer:
            for row in self.rows:
                writer.write(self._described(row))
            writer.finalize()

    def _described(self, row: Sequence[int]) -> dict[str, Any]:
        made: dict[str, Any] = {"starts": [], "counts": [], "masked": [], "skips": [], "seq_lengths": []}
        length = hardest = document = 0
        for number in row:
            source, chunk = self.chosen[number]
            chunks = self.sources[source]
            pieces = slice(chunks.pieces[chunk], chunks.pieces[chunk + 1])
            made["starts"] += chunks.starts[pieces]
            made["counts"] += chunks.counts[pieces]
            made["masked"] += [place + length for place in chunks.masked[chunks.masks[chunk] : chunks.masks[chunk + 1]]]
            made["skips"] += chunks.skips[chunks.skip_ends[chunk] : chunks.skip_ends[chunk + 1]]
            made["seq_lengths"] += [chunks.lengths[chunk]] if self.document_mask else []
            length += chunks.lengths[chunk]
            hardest = max(hardest, chunks.difficulties[chunk])
            document = max(document, chunks.bands[chunk])
        first = self.chosen[row[0]][0]
        return {**made, "length": length, "document": document, "source": first, "difficulty": DIFFICULTIES[hardest]}

    @property
    def lengths(self) -> list[int]:
        """Tokens of each row."""
        return [sum(self.sources[s].lengths[c] for s, c in map(self.chosen.__getitem__, row)) for row in self.rows]

    @property
    def difficulty(self) -> list[str]:
        """How hard each row is: as its hardest chunk."""
        hardest = (max(self.sources[s].difficulties[c] for s, c in map(self.chosen.__getitem__, r)) for r in self.rows)
        return [DIFFICULTIES[value] for value in hardest]


_TYPES = {
    "starts": pa.list_(pa.int64()),
    "counts": pa.list_(pa.int32()),
    "masked": pa.list_(pa.int32()),
    "skips": pa.list_(pa.int32()),
    "seq_lengths": pa.list_(pa.int32()),
    "length": pa.int32(),
    "document": pa.int32(),
    "source": pa.int32(),
    "difficulty": pa.string(),
}


def write_inserted(folder: Path, inserted: Inserted, dtype: np.dtype[Any]) -> None:
    """Write the ids that chunkers added."""
    np.frombuffer(inserted.ids, dtype=np.int32).astype(dtype).tofile(folder / "inserted.bin")


def seal(temporary: Path, folder: Path, manifest: dict[str, Any]) -> None:
    """Write the manifest and move a finished folder to its place; `manifest` names the token stores."""
    files = {
        path.name: [size := path.stat().st_size, prefix_digest(path, size)]
        for path in sorted(temporary.iterdir())
        if path.suffix in (".arrow", ".bin", ".json")
    }
    write_sealed(temporary / "manifest.json", {"format": FORMAT, **manifest, "files": files})
    shutil.rmtree(folder, ignore_errors=True)
    temporary.replace(folder)


def open_rows(folder: Path) -> Prepared | None:
    """Return the rows in a folder, or None if a byte of them or of their tokens is missing or altered."""
    manifest = read_sealed(folder / "manifest.json")
    if manifest.get("format") != FORMAT:
        return None
    if any(prefix_digest(folder / name, size) != digest for name, (size, digest) in manifest["files"].items()):
        return None
    files = []
    for store in manifest["stores"]:
        ids, dtype = folder / store["path"] / "ids.bin", np.dtype(store["dtype"])
        if prefix_digest(ids, store["tokens"] * dtype.itemsize) != store["digest"]:
            return None
        files.append((ids.resolve(), store["dtype"]))
    gather = Gather(
        [*files, ((folder / "inserted.bin").resolve(), manifest["tokenizer"]["dtype"])],
        skips=manifest["positions"] == "skipped",
    )
    opened = {
        split: Dataset.from_file(str(folder / f"{split}.arrow")).with_transform(gather)
        for split in SPLITS
        if f"{split}.arrow" in manifest["files"]
    }
    return Prepared(opened["train"], opened.get("eval"), manifest)
