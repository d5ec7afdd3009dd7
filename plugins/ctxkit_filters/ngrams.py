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

    Equal n-grams have equal hashes wherever they stand. Two different ones have equal hashes with a chance of about
    2^-64; ids made on purpose to collide are not guarded against. The upper bits are spread evenly, the lower less so.
    """
    return _joined(list(hash_blocks(ids, ngram)))


def sampled_hashes(ids: NDArray[np.int32], ngram: int, sample: int) -> NDArray[np.uint64]:
    """Return the hashes in the lowest 1/`sample` of the range: every place of some n-grams, none of others."""
    limit = np.uint64((1 << 64) // sample - 1)
    return _joined([hashes[hashes <= limit] for hashes in hash_blocks(ids, ngram)])


def hash_blocks(ids: NDArray[np.int32], ngram: int) -> Iterator[NDArray[np.uint64]]:
    """Yield the hashes of all n-grams in order, at most `BLOCK` at a time.

    The hash is the sum of id * BASE^(j + 1), j = 0 to n - 1, modulo 2^64 (Karp and Rabin, 1987).
    """
    powers, inverses = _powers(BLOCK + ngram)
    for start in range(0, len(ids) - ngram + 1, BLOCK):
        block = ids[start : start + BLOCK + ngram - 1]
        sums = np.zeros(len(block) + 1, dtype=np.uint64)
        np.multiply(block, powers[: len(block)], out=sums[1:], dtype=np.uint64, casting="unsafe")
        np.cumsum(sums, out=sums)
        # Sums of id * BASE^k up to the end of an n-gram less those up to its start, divided by the power at its start.
        hashes = sums[ngram:] - sums[:-ngram]
        hashes *= inverses[: len(hashes)]
        yield hashes


@lru_cache(maxsize=8)
def _powers(count: int) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Return the powers of BASE, 0 to count - 1, and those of its inverse, -1 to count - 2, modulo 2^64."""
    inverse = pow(BASE, -1, 1 << 64)
    powers = np.full((2, count), np.array([[BASE], [inverse]], dtype=np.uint64))
    powers[:, 0] = 1, BASE
    np.cumprod(powers, axis=1, out=powers)
    return powers[0], powers[1]


def _joined(blocks: list[NDArray[np.uint64]]) -> NDArray[np.uint64]:
    return blocks[0] if len(blocks) == 1 else np.concatenate([np.empty(0, np.uint64), *blocks])


def mixed(hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return hashes with all 64 bits spread evenly: the finaliser of MurmurHash3 (Appleby, 2011), one to one."""
    shifted = hashes >> np.uint64(33)
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        shifted ^= hashes
        shifted *= np.uint64(factor)
        hashes, shifted = shifted, shifted >> np.uint64(33)
    return hashes ^ shifted
