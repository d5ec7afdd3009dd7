"""64-bit hashes of every n-gram of a document, in time that does not depend on n."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

BASE = 0x9E3779B97F4A7C15
"""Odd, so that it has an inverse modulo 2^64, and 5 modulo 8, so that its powers repeat only after 2^62 of them."""
BLOCK = 1 << 15
"""N-grams hashed at once: what they need stays in the cache of a core, and a long document needs no more memory."""


def ngram_hashes(ids: NDArray[np.int32], ngram: int) -> NDArray[np.uint64]:
    """Return the hash of every n-gram in order, shape (max(tokens - ngram + 1, 0),).

    Equal n-grams have equal hashes wherever they stand. Different ones have different hashes but for about one pair in
    2^64; ids made on purpose to collide are not guarded against.
    """
    return sampled_hashes(ids, ngram, 1)


def sampled_hashes(ids: NDArray[np.int32], ngram: int, sample: int) -> NDArray[np.uint64]:
    """Return the hashes in the lowest 1/`sample` of the range: all of the n-grams chosen, and none of the others."""
    limit = np.uint64((1 << 64) // sample - (sample == 1))
    blocks = [hashes if sample == 1 else hashes[hashes < limit] for hashes in _blocks(ids, ngram)]
    return blocks[0] if len(blocks) == 1 else np.concatenate([np.empty(0, np.uint64), *blocks])


def _blocks(ids: NDArray[np.int32], ngram: int) -> Iterator[NDArray[np.uint64]]:
    """Yield the hashes of at most `BLOCK` n-grams at a time."""
    for start in range(0, len(ids) - ngram + 1, BLOCK):
        yield mixed(_polynomials(ids[start : start + BLOCK + ngram - 1], ngram))


def _polynomials(ids: NDArray[np.int32], ngram: int) -> NDArray[np.uint64]:
    """Return the sum of (id + 1) * BASE^j, j = 0 to n - 1, of every n-gram modulo 2^64 (Karp and Rabin, 1987).

    Running sums of (id + 1) * BASE^k are subtracted, and divided by the power at which the n-gram starts.
    """
    powers, inverses = _powers(BLOCK + ngram)
    sums = np.zeros(len(ids) + 1, dtype=np.uint64)
    terms = ids.astype(np.uint64)
    terms += np.uint64(1)
    terms *= powers[: len(ids)]
    np.cumsum(terms, out=sums[1:])
    windows: NDArray[np.uint64] = sums[ngram:] - sums[:-ngram]
    windows *= inverses[: len(windows)]
    return windows


@lru_cache(maxsize=8)
def _powers(count: int) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Return the powers 0 to count - 1 of BASE and of its inverse, modulo 2^64."""
    bases = np.array([BASE, pow(BASE, -1, 1 << 64)], dtype=np.uint64)
    powers = np.ones((2, count), dtype=np.uint64)
    powers[:, 1:] = bases[:, None]
    np.cumprod(powers, axis=1, out=powers)
    return powers[0], powers[1]


def mixed(hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Spread hashes evenly over 64 bits, in place: the finaliser of MurmurHash3 (Appleby, 2011), one to one."""
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        hashes ^= hashes >> np.uint64(33)
        hashes *= np.uint64(factor)
    hashes ^= hashes >> np.uint64(33)
    return hashes
