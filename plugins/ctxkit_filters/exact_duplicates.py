"""Documents seen before, token by token."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from xxhash import xxh3_128_digest

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ctxkit.spec import EncodedDocument


def fingerprint(ids: NDArray[np.int32]) -> bytes:
    """Return 16 bytes that equal documents share, and others but for a chance of 2^-128 a pair do not."""
    return xxh3_128_digest(np.ascontiguousarray(ids, dtype=np.int32).data)


@dataclass(frozen=True)
class ExactDuplicateFilter:
    """Judge a document by whether the same tokens came before; about 100 bytes of memory a kept document."""

    _seen: set[bytes] = field(default_factory=set)

    def __call__(self, document: EncodedDocument) -> str | None:
        """Return why the document is dropped, or None."""
        digest = fingerprint(document.input_ids)
        if digest in self._seen:
            return "the same tokens as a document before"
        self._seen.add(digest)
        return None
