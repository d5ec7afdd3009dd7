"""95 % intervals: Wilson's for shares, the bootstrap for means over documents."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
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


def bootstrap_perplexity(sums: NDArray[np.float64], tokens: int, seed: int) -> tuple[float, float]:
    """Return the percentile interval of `exp(sum / tokens)` over documents drawn with replacement.

    `sums` holds the summed negative log-likelihood of each document, in nats; every one has the same count of tokens.
    """
    generator = np.random.default_rng(seed)
    drawn = generator.integers(len(sums), size=(RESAMPLES, len(sums)))
    low, high = np.percentile(np.exp(sums[drawn].mean(axis=1) / tokens), (2.5, 97.5))
    return float(low), float(high)
