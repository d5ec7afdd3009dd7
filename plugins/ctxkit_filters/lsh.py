"""An index of signatures that finds similar ones without comparing all (locality-sensitive hashing by bands)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ctxkit_filters.minhash import similarity
from ctxkit_filters.ngrams import BASE, mixed

if TYPE_CHECKING:
    from numpy.typing import NDArray

RECALL = 0.95
"""The least chance that two signatures exactly as similar as the threshold meet in a band."""
FOLLOWED = 128
"""Documents looked at in one bucket, the newest first; it bounds the time where very many share a header."""
FIRST_CAPACITY = 1024
NONE = -1


def banding(threshold: float, num_perm: int) -> tuple[int, int]:
    """Return bands and rows a band: the longest bands by which similar documents are still found.

    Signatures of similarity s agree in all r rows of one of b bands with probability 1 - (1 - s^r)^b (Leskovec,
    Rajaraman and Ullman, "Mining of Massive Datasets", 3.4.2). What meets is verified afterwards, so that only what
    does not meet is lost; hence the bound on that, where datasketch weighs both kinds of error alike.
    """
    fitting = [rows for rows in range(2, num_perm + 1) if 1 - (1 - threshold**rows) ** (num_perm // rows) >= RECALL]
    rows = max(fitting, default=1)
    return num_perm // rows, rows


class LshIndex:
    """Signatures by their bands; every band has a table of buckets, each a chain from the newest signature back.

    Memory for a signature, with 128 values and threshold 0.8: 256 bytes for itself and 144 for 18 bands, up to twice
    as much where the arrays have just grown.
    """

    def __init__(self, threshold: float, num_perm: int) -> None:
        """Make an empty index."""
        self.threshold = threshold
        self.bands, self.rows = banding(threshold, num_perm)
        self.count = 0
        self._signatures = np.empty((FIRST_CAPACITY, num_perm), dtype=np.uint16)
        self._numbers = np.arange(self.bands)
        self._factors = np.array([pow(BASE, row, 1 << 64) for row in range(self.rows)], dtype=np.uint64)
        self._link_all()

    def add(self, signature: NDArray[np.uint16]) -> None:
        """Remember a signature, shape (num_perm,)."""
        if self.count == len(self._signatures):
            self._signatures = np.concatenate([self._signatures, np.empty_like(self._signatures)])
            self._signatures[self.count] = signature
            self.count += 1
            self._link_all()
        else:
            self._signatures[self.count] = signature
            self._link(self.count)
            self.count += 1

    def holds_similar(self, signature: NDArray[np.uint16]) -> bool:
        """Tell whether a signature found through some band has at least the threshold's similarity."""
        found = self._candidates(signature)
        return len(found) > 0 and bool(similarity(signature, self._signatures[found]).max() >= self.threshold)

    def _candidates(self, signature: NDArray[np.uint16]) -> NDArray[np.int32]:
        """Return the numbers of the signatures in the same buckets, each once."""
        at = self._heads[self._numbers, self._buckets(signature)]
        found = [at]
        for _ in range(FOLLOWED - 1):
            if at.max() == NONE:
                break
            at = np.where(at == NONE, NONE, self._before[at, self._numbers])
            found.append(at)
        links = np.concatenate(found)
        numbers: NDArray[np.int32] = np.unique(links[links != NONE])
        return numbers

    def _buckets(self, signature: NDArray[np.uint16]) -> NDArray[np.intp]:
        """Return the bucket of each band, shape (bands,)."""
        values = signature[: self.bands * self.rows].reshape(self.bands, self.rows)
        keys = mixed((values * self._factors).sum(axis=1))
        buckets: NDArray[np.intp] = (keys & np.uint64(self._heads.shape[1] - 1)).astype(np.intp)
        return buckets

    def _link(self, number: int) -> None:
        """Put a signature at the head of its buckets."""
        buckets = self._buckets(self._signatures[number])
        self._before[number] = self._heads[self._numbers, buckets]
        self._heads[self._numbers, buckets] = number

    def _link_all(self) -> None:
        """Make the tables as large as the store of signatures, a power of two, and fill them."""
        capacity = len(self._signatures)
        self._heads = np.full((self.bands, capacity), NONE, dtype=np.int32)
        self._before = np.empty((capacity, self.bands), dtype=np.int32)
        for number in range(self.count):
            self._link(number)
