"""Text that repeats itself: the share of repeated n-grams, and a test of windows that follow each other."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ctxkit_filters.ngrams import sampled_hashes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ctxkit.spec import EncodedDocument

SAMPLE = 8
"""One hash in so many is looked at first."""
EXACT_BELOW = 4096
"""N-grams below which sampling would save nothing, being too rough to decide by."""
DEVIATIONS = 5
"""Standard deviations between an estimate and the limit; closer ones are counted exactly. Beyond 5 lie 6 in 10^7."""


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

    Each distinct n-gram is in the sample with probability p = 1/`sample`, so that the estimate of their number d, the
    sample times 1/p, has the variance d * (1 - p) / p; and d <= total.
    """
    return math.sqrt((sample - 1) / total)


def repeats_window(ids: NDArray[np.int32], window: int = 50, threshold: float = 0.8) -> bool:
    """Tell whether some window agrees with the one right behind it in more than `threshold` of its places.

    This sees periods that divide the window and no copy at any other distance.
    """
    equal = ids[:-window] == ids[window:]
    if len(equal) < window:
        return False
    sums = np.zeros(len(equal) + 1, dtype=np.int64)
    np.cumsum(equal, out=sums[1:])
    return int((sums[window:] - sums[:-window]).max()) / window > threshold


def _distinct(hashes: NDArray[np.uint64]) -> int:
    """Return how many of the hashes are different; sorts them."""
    hashes.sort()
    return min(len(hashes), 1) + int(np.count_nonzero(hashes[1:] != hashes[:-1]))


@dataclass(frozen=True)
class RepetitionFilter:
    """Judge a document by the share of its repeated n-grams, as if all were counted."""

    ngram: int
    max_ratio: float

    def __call__(self, document: EncodedDocument) -> str | None:
        """Return why the document is dropped, or None."""
        if self._share(document.input_ids) > self.max_ratio:
            return f"more than {self.max_ratio} of its {self.ngram}-grams are repeated"
        return None

    def _share(self, ids: NDArray[np.int32]) -> float:
        """Return the share, estimated where the estimate is surely on the right side of the limit."""
        total = len(ids) - self.ngram + 1
        if total >= EXACT_BELOW:
            share = repeated_share(ids, self.ngram, SAMPLE)
            if abs(share - self.max_ratio) > DEVIATIONS * deviation(total, SAMPLE):
                return share
        return repeated_share(ids, self.ngram)


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
