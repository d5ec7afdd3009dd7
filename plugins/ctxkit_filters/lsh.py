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
        self._heads, self._before = self._tables()

    def add_unless_similar(self, signature: NDArray[np.uint16]) -> bool:
        """Remember a signature, shape (num_perm,), and return True; or return False where a similar one is known.

        Similar is one of at least the threshold's similarity that some band leads to.
        """
        buckets = self._buckets(signature)
        found = self._candidates(buckets)
        if len(found) and similarity(signature, self._signatures[found]).max() >= self.threshold:
            return False
        if self.count == len(self._signatures):
            self._grow()
            buckets = self._buckets(signature)
        self._signatures[self.count] = signature
        self._link(self.count, buckets)
        self.count += 1
        return True

    def _buckets(self, signature: NDArray[np.uint16]) -> NDArray[np.intp]:
        """Return the bucket of each band, shape (bands,)."""
        values = signature[: self.bands * self.rows].reshape(self.bands, self.rows)
        keys = mixed((values * self._factors).sum(axis=1))
        buckets: NDArray[np.intp] = (keys & np.uint64(self._heads.shape[1] - 1)).astype(np.intp)
        return buckets

    def _candidates(self, buckets: NDArray[np.intp]) -> NDArray[np.int32]:
        """Return the numbers of the signatures in these buckets; one may come several times."""
        heads = self._heads[self._numbers, buckets]
        bands = np.flatnonzero(heads != NONE)
        at, found = heads[bands], [heads[bands]]
        while len(at) and len(found) < FOLLOWED:
            at = self._before[at, bands]
            bands, at = bands[at != NONE], at[at != NONE]
            found.append(at)
        return np.concatenate(found)

    def _link(self, number: int, buckets: NDArray[np.intp]) -> None:
        """Put a signature at the head of its buckets."""
        self._before[number] = self._heads[self._numbers, buckets]
        self._heads[self._numbers, buckets] = number

    def _grow(self) -> None:
        """Double the store of signatures, and link them in tables as large."""
        self._signatures = np.concatenate([self._signatures, np.empty_like(self._signatures)])
        self._heads, self._before = self._tables()
        for number in range(self.count):
            self._link(number, self._buckets(self._signatures[number]))

    def _tables(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Return the newest signature of each bucket, (bands, buckets), and the one before each, (signatures, bands).

        There are as many buckets as the store has places, a power of two.
        """
        capacity = len(self._signatures)
        heads = np.full((self.bands, capacity), NONE, dtype=np.int32)
        return heads, np.empty((capacity, self.bands), dtype=np.int32)
