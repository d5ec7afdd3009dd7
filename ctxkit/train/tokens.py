"""The token store: the documents of one source as token ids in a flat file, appended to and never rewritten.

A folder holds `ids.bin` (little-endian ids, two or four bytes each), `index.bin` (three int64 a document: where its
ids end in tokens, which document of the source it is, where its line of `documents.jsonl` ends in bytes),
`documents.jsonl` (id, group, order, metadata), `left_out.jsonl` (what never became a document here, and why), and
`journal.json`, written last: how much of each file is whole, and its hash. What lies beyond that is cut off.
"""

from __future__ import annotations

import json
import os
import shutil
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import xxhash
from numpy.typing import NDArray

from ctxkit.rundir import read_sealed, write_sealed
from ctxkit.spec import Document, EncodedDocument

FORMAT = 1
"""Raised whenever a store of an older version must not be read."""
FILES = ("ids.bin", "index.bin", "documents.jsonl", "left_out.jsonl")
PIECE_BYTES = 1 << 20
"""How much is read at once for hashing."""
PIECE_TOKENS = 1 << 20
"""How many ids are read at once."""
INDEX_FIELDS = 3
READ_BYTES = 1 << 30
"""The kernel reads no more than two gigabytes at once."""


@dataclass(frozen=True)
class LeftOut:
    """A document that a source or a filter left out before it was tokenised."""

    position: int
    """Of the document of the source that comes next, from 0."""
    id: str
    reason: str
    by: str
    """`source` or `filter`."""


class TokenStore:
    """Append documents of one source, and read them back."""

    def __init__(self, folder: Path, dtype: np.dtype[Any]) -> None:
        """Open a store, or make one; what a kill left after the last commit is cut off, a damaged store thrown away."""
        self.folder, self.dtype = folder, dtype
        self.journal = _verified(folder, dtype)
        if not self.journal:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        self._hashes = {name: _hash(folder / name, self._size(name)) for name in FILES}
        self._files = {name: (folder / name).open("r+b" if self.journal else "w+b", buffering=0) for name in FILES}
        self._sizes = {name: self._size(name) for name in FILES}
        for name, file in self._files.items():
            file.truncate(self._sizes[name])
            file.seek(self._sizes[name])
        index = np.fromfile(folder / "index.bin", dtype="<i8").reshape(-1, INDEX_FIELDS)
        self._ends, self._positions, self._lines = (array("q", index[:, column].tobytes()) for column in range(3))
        self.position = int(self.journal.get("position", 0))
        """Documents of the source that were read, those left out included."""
        self.exhausted = bool(self.journal.get("exhausted", False))
        """Whether the source has no more."""
        self.largest_id = int(self.journal.get("largest_id", 0))
        self.special_token_texts = int(self.journal.get("special_token_texts", 0))

    def __len__(self) -> int:
        """Return how many documents it holds."""
        return len(self._ends)

    @property
    def tokens(self) -> int:
        """Tokens of all documents."""
        return self._ends[-1] if self._ends else 0

    def start(self, index: int) -> int:
        """Return where the ids of a document begin, in tokens."""
        return self._ends[index - 1] if index else 0

    def length(self, index: int) -> int:
        """Return the tokens of a document."""
        return self._ends[index] - self.start(index)

    def position_of(self, index: int) -> int:
        """Return which document of the source a document is, from 0."""
        return self._positions[index]

    def read(self, index: int, decode: Any) -> EncodedDocument:
        """Return a document; its text is decoded by `decode(ids)` when somebody asks for it."""
        start, ids = self.start(index), np.empty(self.length(index), dtype=np.int32)
        for first in range(0, len(ids), PIECE_TOKENS):  # in pieces: as a whole it would be held in both types at once
            piece = ids[first : first + PIECE_TOKENS]
            piece[:] = self.read_span(start + first, len(piece))
        return EncodedDocument(_StoredDocument.of(json.loads(self.line(index)), ids, decode), ids)

    def read_span(self, start: int, count: int) -> NDArray[Any]:
        """Return `count` ids from token `start` of the store on."""
        return read_ids(self._files["ids.bin"].fileno(), self.dtype, start, count)

    def at(self, place: int) -> tuple[str, int]:
        """Return the id of the document that a token of the store belongs to, and the token's place in it."""
        index = bisect_right(self._ends, place)
        return json.loads(self.line(index))["id"], place - self.start(index)

    def left_out_lines(self) -> Iterator[tuple[int, bytes]]:
        """Yield each line of what was left out with its position."""
        with (self.folder / "left_out.jsonl").open("rb") as file:
            for line in file:
                yield json.loads(line)["position"], line

    def copy_left_out(self, line: bytes) -> None:
        """Append a line of what another store left out."""
        self._write("left_out.jsonl", line)

    def copy(self, other: TokenStore, index: int, position: int) -> None:
        """Append a document of another store, its line as it is."""
        self._write("ids.bin", other.read_span(other.start(index), other.length(index)).tobytes())
        self._end(other.line(index), position)

    def line(self, index: int) -> bytes:
        """Return the line of `documents.jsonl` of a document."""
        begin = self._lines[index - 1] if index else 0
        return os.pread(self._files["documents.jsonl"].fileno(), self._lines[index] - begin, begin)

    def append_ids(self, ids: NDArray[Any]) -> None:
        """Append tokens of the document that `end` will name.

        Raises:
            OverflowError: an id does not fit the type of the store.
        """
        if len(ids):
            self.largest_id = max(self.largest_id, int(ids.max()))
            if self.largest_id > np.iinfo(self.dtype).max:
                raise OverflowError(f"token id {self.largest_id} does not fit {self.dtype}")
            self._write("ids.bin", ids.astype(self.dtype, copy=False).tobytes())

    def end(self, document: Document, position: int) -> None:
        """End a document: what was appended since the one before is its tokens."""
        values = {"id": document.id, "group": document.group, "order": document.order}
        line = json.dumps({**values, "metadata": dict(document.metadata)}, ensure_ascii=False)
        self._end(line.encode("utf-8", "backslashreplace") + b"\n", position)

    def _end(self, line: bytes, position: int) -> None:
        self._write("documents.jsonl", line)
        row = (self._sizes["ids.bin"] // self.dtype.itemsize, position, self._sizes["documents.jsonl"])
        for column, value in zip((self._ends, self._positions, self._lines), row, strict=True):
            column.append(value)
        self._write("index.bin", np.array(row, dtype="<i8").tobytes())

    def leave_out(self, item: LeftOut, text: str | None = None) -> None:
        """Write down what is left out, with its text where wanted."""
        values = {"position": item.position, "id": item.id, "reason": item.reason, "by": item.by}
        line = json.dumps(values if text is None else {**values, "text": text})
        self._write("left_out.jsonl", line.encode() + b"\n")

    def left_out(self) -> Iterator[LeftOut]:
        """Yield what was left out, in order."""
        for _, line in self.left_out_lines():
            values = json.loads(line)
            yield LeftOut(values["position"], values["id"], values["reason"], values["by"])

    def commit(self) -> None:
        """Make all that was appended last: flush it, then say in the journal how much it is."""
        for file in self._files.values():
            os.fsync(file.fileno())
        self.journal = {
            "format": FORMAT,
            "dtype": self.dtype.str,
            "documents": len(self),
            "tokens": self.tokens,
            "position": self.position,
            "exhausted": self.exhausted,
            "largest_id": self.largest_id,
            "special_token_texts": self.special_token_texts,
            "files": {name: [self._sizes[name], self._hashes[name].hexdigest()] for name in FILES},
        }
        write_sealed(self.folder / "journal.json", self.journal)

    @property
    def committed(self) -> bool:
        """Whether the journal speaks of all that was read."""
        known = (self.journal.get("position"), self.journal.get("exhausted"))
        return known == (self.position, self.exhausted)

    def close(self) -> None:
        """Close the files; what was not committed is lost."""
        for file in self._files.values():
            file.close()

    def digest(self) -> str:
        """Return the hash of all ids so far."""
        return str(self._hashes["ids.bin"].hexdigest())

    def _write(self, name: str, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self._files[name].write(view) :]
        self._hashes[name].update(data)
        self._sizes[name] += len(data)

    def _size(self, name: str) -> int:
        return int(self.journal["files"][name][0]) if self.journal else 0


class _StoredDocument(Document):
    """A document whose text is decoded from its ids when somebody asks for it."""

    @classmethod
    def of(cls, values: dict[str, Any], ids: NDArray[Any], decode: Any) -> Document:
        """Return a document of a line of `documents.jsonl`."""
        document = cls.__new__(cls)
        document.__dict__.update(values, messages=(), _ids=ids, _decode=decode)
        return document

    @cached_property
    def text(self) -> str:
        """The text, without begin and end tokens."""
        return cast("str", self.__dict__["_decode"](self.__dict__["_ids"]))


def renamed(encoded: EncodedDocument, document_id: str) -> EncodedDocument:
    """Return an encoded document under another id."""
    document = encoded.document
    copy = document.__class__.__new__(document.__class__)
    copy.__dict__.update(document.__dict__, id=document_id)
    return replace(encoded, document=copy)


def read_ids(file: int, dtype: np.dtype[Any], start: int, count: int) -> NDArray[Any]:
    """Return ids from an open file of them: `count` from token `start` on.

    Read rather than mapped, so that memory stays as it is however large the file.
    """
    size = count * dtype.itemsize
    buffer = bytearray(size)
    view, done = memoryview(buffer), 0
    while done < size:
        got = os.preadv(file, [view[done : done + READ_BYTES]], start * dtype.itemsize + done)
        if not got:
            raise OSError(f"token ids end after {done} of {size} bytes")
        done += got
    return np.frombuffer(buffer, dtype=dtype)


def prefix_digest(path: Path, size: int) -> str:
    """Return the hash of the first `size` bytes of a file, or an empty text where it is shorter."""
    if not path.is_file() or path.stat().st_size < size:
        return ""
    return str(_hash(path, size).hexdigest())


def _hash(path: Path, size: int) -> Any:
    digest = xxhash.xxh3_128()
    if size:
        with path.open("rb") as file:
            while size and (block := file.read(min(size, PIECE_BYTES))):
                digest.update(block)
                size -= len(block)
    return digest


def _verified(folder: Path, dtype: np.dtype[Any]) -> dict[str, Any]:
    """Return the journal of a store whose committed part is all there, or an empty mapping."""
    journal = read_sealed(folder / "journal.json")
    if journal.get("format") != FORMAT or journal.get("dtype") != dtype.str:
        return {}
    whole = all(prefix_digest(folder / name, size) == digest for name, (size, digest) in journal["files"].items())
    return journal if whole else {}
