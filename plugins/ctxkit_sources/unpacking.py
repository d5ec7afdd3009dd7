"""Packed files, unpacked as they are read, up to a limit: a few kilobytes may unpack to terabytes."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctxkit.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MOST_TIMES = 100
"""How many times its size a file may unpack to; text packs to a third or a tenth, repetitive logs to a fiftieth."""
FREE_BYTES = 64 << 20
"""Unpacked bytes that are never too many."""
_OPENERS: Mapping[str, Callable[[str], Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
_BY_ARROW = {".zst": "zstd", ".lz4": "lz4"}


def unpacked(path: str) -> io.RawIOBase | None:
    """Return a file to be read unpacked, or None where its name does not end as that of a packed one.

    Raises:
        OSError: it cannot be opened.
    """
    suffix = Path(path).suffix
    if suffix in _OPENERS:
        return _Limited(path, _OPENERS[suffix](path))
    if suffix in _BY_ARROW:
        import pyarrow as pa

        return _Limited(path, pa.input_stream(path, compression=_BY_ARROW[suffix]))
    return None


def check_ratio(path: str, count: int) -> None:
    """Refuse a file that unpacks to more bytes than is likely.

    Raises:
        DataError: with its size, and how to read it all the same.
    """
    size = Path(path).stat().st_size
    if count > max(FREE_BYTES, MOST_TIMES * size):
        said = f"{path} unpacks to more than {count - 1:,} bytes, from {size:,}: over {MOST_TIMES} times its size"
        raise DataError(said, "a file made to fill memory or disk does so; if you know this one, unpack it yourself")


class _Limited(io.RawIOBase):
    """An unpacked stream that refuses to become too long."""

    def __init__(self, path: str, stream: Any) -> None:
        super().__init__()
        self._path, self._stream, self._count = path, stream, 0
        self._most = max(FREE_BYTES, MOST_TIMES * Path(path).stat().st_size)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = self._stream.read(len(buffer))
        self._count += len(piece)
        if self._count > self._most:
            check_ratio(self._path, self._count)
        buffer[: len(piece)] = piece
        return len(piece)

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
        super().close()
