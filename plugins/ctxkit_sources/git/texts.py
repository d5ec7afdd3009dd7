"""Whether the content of a file is text, and if not, why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ctxkit.errors import DataError

if TYPE_CHECKING:
    from ctxkit_sources.git.blobs import Blob

PREFIX = 8000
"""Bytes in which git looks for a NUL to tell binary files (`FIRST_FEW_BYTES` of its xdiff-interface.c)."""
LFS = b"version https://git-lfs.github.com/spec/"
LFS_BYTES = 1024
"""A pointer of Git LFS is smaller than this, by its specification."""


@dataclass(frozen=True)
class Texts:
    """How contents become text."""

    max_bytes: int
    encoding: str
    errors: str
    """strict, skip or replace."""

    def read(self, blob: Blob, id_: str) -> tuple[str, str]:
        """Return the text and nothing, or nothing and the reason why there is none.

        Raises:
            DataError: it is not in the encoding, and errors are strict.
        """
        reason = self._reason(blob)
        if reason or blob.data is None:
            return "", reason
        try:
            return blob.data.decode(self.encoding, "replace" if self.errors == "replace" else "strict"), ""
        except UnicodeDecodeError as error:
            if self.errors == "strict":
                said = f"{id_} is not {self.encoding}: byte {blob.data[error.start]:#04x} at {error.start}"
                raise DataError(said, "set `encoding`, or `errors: skip` or `replace`") from error
            return "", f"not {self.encoding}"

    def _reason(self, blob: Blob) -> str:
        if blob.size < 0:
            return "missing object"
        if blob.data is None:
            return "larger than max_bytes"
        if blob.data.find(b"\0", 0, PREFIX) >= 0 and not self._writes_nul():
            return "binary"
        return "Git LFS pointer" if blob.size < LFS_BYTES and blob.data.startswith(LFS) else ""

    def _writes_nul(self) -> bool:
        """Tell whether the encoding writes plain letters with NULs, as UTF-16 does."""
        return b"\0" in "a".encode(self.encoding)
