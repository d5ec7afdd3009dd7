"""95 % intervals: Wilson's for shares, the bootstrap for means over documents."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

Z = 1.959963984540054
"""The 97.5 % quantile of the normal distribution."""
RESAMPLES = 2000


def wilson(successes: int, count: int) -> tuple[float, float]:
    """Return Wilson's score interval of a share (Wilson 1927); unlike the plain one it stays within 0 and 1."""
    share = successes / count
    centre = (share + Z * Z / (2 * count)) / (1 + Z * Z / count)
    spread = Z / (1 + Z * Z / count) * math.sqrt(share * (1 - share) / count + Z * Z / (4 * count * count))
    # At 0 and at 1 the bound is exact; rounding must not push it past the share.
    return (0.0 if successes == 0 else centre - spread), (1.0 if successes == count else centre + spread)


def bootstrap_perplexity(
    sums: NDArray[np.float64], tokens: int, documents: Sequence[str], seed: int
) -> tuple[float, float]:
    """Return the percentile interval of `exp(mean loss)` over documents drawn with replacement.

    `sums` holds the summed negative log-likelihood of each window in nats; every window has the same count of tokens.
    Windows of one document, named alike in `documents`, are drawn together, because they are not independent. With a
    single document its windows are drawn instead, and the interval says nothing about other documents.
    """
    names, owner = np.unique(np.asarray(documents), return_inverse=True)
    if len(names) == 1:
        names, owner = np.arange(len(sums)), np.arange(len(sums))
    by_document = np.bincount(owner, weights=sums, minlength=len(names))
    counts = np.bincount(owner, minlength=len(names)) * tokens
    drawn = np.random.default_rng(seed).integers(len(names), size=(RESAMPLES, len(names)))
    means = by_document[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.percentile(np.exp(means), (2.5, 97.5))
    return float(low), float(high)
