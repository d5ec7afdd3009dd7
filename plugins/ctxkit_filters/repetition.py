"""Text that repeats itself: the share of repeated n-grams, and a test of windows that follow each other."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ctxkit_filters.ngrams import BLOCK, hash_blocks, sampled_hashes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ctxkit.spec import EncodedDocument

SAMPLE = 8
"""One hash in so many is looked at in a long document."""
LONG = 1 << 18
"""N-grams in a document from which on it is sampled; `deviation` is then at most 0.0052."""


def repeated_share(ids: NDArray[np.int32], ngram: int = 50, sample: int = 1) -> float:
    """Return the share of n-grams that stood in the document before, at any distance: 1 - distinct / all.

    With `sample` > 1 the distinct ones are counted among those whose hash is in the lowest 1/`sample` of the range, and
    multiplied; `deviation` says how far off that is. Documents shorter than an n-gram repeat nothing.
    """
    total = len(ids) - ngram + 1
    if total < 2:
        return 0.0
    distinct = _distinct(sampled_hashes(ids, ngram, sample)) * sample
    return max(1 - distinct / total, 0.0)


def deviation(total: int, sample: int) -> float:
    """Return the greatest standard deviation of a share estimated for `total` n-grams.

    Each distinct n-gram is in the sample with probability p = 1/`sample`, so that the estimate of their number d, those
    in the sample times 1/p, has the variance d * (1 - p) / p; and d <= total.
    """
    return math.sqrt((sample - 1) / total)


def repeated_share_bound(ids: NDArray[np.int32], ngram: int = 50) -> float:
    """Return an upper bound of the share, mostly less than 0.06 too high, in a fifth of the time.

    Every distinct hash marks a place in a table by its upper bits. As some share a place, at least as many are distinct
    as places are marked (the table of linear counting: Whang, Vander-Zanden and Taylor, 1990).
    """
    total = len(ids) - ngram + 1
    if total < 2:
        return 0.0
    bits = (8 * total - 1).bit_length()
    marked = np.zeros(1 << bits, dtype=np.bool_)
    for hashes in hash_blocks(ids, ngram):
        marked[(hashes >> np.uint64(64 - bits)).view(np.int64)] = True
    return 1 - int(np.count_nonzero(marked)) / total


def repeats_window(ids: NDArray[np.int32], window: int = 50, threshold: float = 0.8) -> bool:
    """Tell whether some window agrees with the one right behind it in more than `threshold` of its places.

    This sees periods that divide the window and no copy at any other distance.
    """
    starts = range(0, len(ids) - 2 * window + 1, BLOCK)
    blocks = (ids[start : start + BLOCK + 2 * window - 1] for start in starts)
    return any(_most_equal(block, window) / window > threshold for block in blocks)


def _most_equal(ids: NDArray[np.int32], window: int) -> int:
    """Return the most places in which a window equals the one right behind it, of at least 2 * `window` tokens."""
    equal = ids[:-window] == ids[window:]
    sums = np.zeros(len(equal) + 1, dtype=np.int64)
    np.cumsum(equal, out=sums[1:])
    return int((sums[window:] - sums[:-window]).max())


def _distinct(hashes: NDArray[np.uint64]) -> int:
    """Return how many of the hashes are different; sorts them."""
    hashes.sort()
    return min(len(hashes), 1) + int(np.count_nonzero(hashes[1:] != hashes[:-1]))


@dataclass(frozen=True)
class RepetitionFilter:
    """Judge a document by the share of its repeated n-grams, which is exact unless the document is long."""

    ngram: int
    max_ratio: float

    def __call__(self, document: EncodedDocument) -> str | None:
        """Return why the document is dropped, or None."""
        ids = document.input_ids
        sample = SAMPLE if len(ids) - self.ngram + 1 >= LONG else 1
        if sample == 1 and repeated_share_bound(ids, self.ngram) <= self.max_ratio:
            return None
        if repeated_share(ids, self.ngram, sample) > self.max_ratio:
            return f"more than {self.max_ratio} of its {self.ngram}-grams are repeated"
        return None


@dataclass(frozen=True)
class WindowFilter:
    """Judge a document by windows that repeat the one before."""

    window: int
    threshold: float

    def __call__(self, document: EncodedDocument) -> str | None:
        """Return why the document is dropped, or None."""
        if repeats_window(document.input_ids, self.window, self.threshold):
            return f"a window of {self.window} tokens is repeated at once"
        return None
