"""Signatures of documents whose agreement estimates how much two documents have in common."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from ctxkit_filters.ngrams import hash_blocks, mixed

if TYPE_CHECKING:
    from numpy.typing import NDArray

EMPTY = np.uint64(2**64 - 1)


def signature(ids: NDArray[np.int32], num_perm: int = 128, ngram: int = 5) -> NDArray[np.uint16]:
    """Return the MinHash signature of the set of a document's n-grams, shape (num_perm,).

    One permutation hashing (Li, Owen and Zhang, 2012): the range of the hashes is cut into `num_perm` bins, and each
    keeps its least. An empty bin borrows from another (Shrivastava, "Optimal Densification for Fast and Accurate
    Minwise Hashing", 2017). Of each least hash 16 bits are kept (Li and Koenig, "b-Bit Minwise Hashing", 2010), so that
    two that differ agree by chance in 1 of 65,536 places. A document shorter than `ngram` is one n-gram itself.

    Raises:
        ValueError: the document has no tokens, thus nothing to compare.
    """
    if not len(ids):
        raise ValueError("a document without tokens has no signature")
    ngram = min(ngram, len(ids))
    minima = np.full(num_perm, EMPTY)
    for block in hash_blocks(ids, ngram):
        # The length is added, so that a short document never equals an n-gram that ends in id 0.
        hashes = mixed(block + np.uint64(ngram))
        bins = (hashes >> np.uint64(32)) * np.uint64(num_perm) >> np.uint64(32)
        np.minimum.at(minima, bins.astype(np.intp), hashes)
    return _densified(minima).astype(np.uint16)


def similarity(one: NDArray[np.uint16], others: NDArray[np.uint16]) -> NDArray[np.float64]:
    """Return the estimated Jaccard similarity of one signature to each of several, shapes (k,), (n, k) -> (n,).

    For a true similarity s of documents with many more n-grams than k, the standard deviation is sqrt(s * (1 - s) / k);
    it is larger for shorter ones, whose values are borrowed.
    """
    agreement: NDArray[np.float64] = (others == one).mean(axis=1)
    return agreement


def _densified(minima: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Fill each empty bin from the first bin that is not, in an order of its own that all documents share."""
    filled = minima != EMPTY
    if filled.all():
        return minima
    empty = np.flatnonzero(~filled)
    orders = _orders(len(minima))[empty]
    minima[empty] = minima[orders[np.arange(len(empty)), filled[orders].argmax(axis=1)]]
    return minima


@lru_cache(maxsize=2)
def _orders(bins: int) -> NDArray[np.uint16]:
    """Return for every bin a random order of all bins, shape (bins, bins).

    The paper draws bins with replacement until one is not empty; the first of a random order has the same distribution.
    """
    generator = np.random.default_rng(2017)
    return generator.permuted(np.tile(np.arange(bins, dtype=np.uint16), (bins, 1)), axis=1)
