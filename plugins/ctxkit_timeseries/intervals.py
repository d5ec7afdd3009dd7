"""95 % intervals over trajectories: the bootstrap for means, Wilson's for shares."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Z = 1.959963984540054
"""The 97.5 % quantile of the normal distribution."""
RESAMPLES = 2000


def bootstrap_mean(values: NDArray[np.float64], seed: int) -> tuple[float, float]:
    """Return the percentile interval of the mean of values drawn with replacement."""
    drawn = np.random.default_rng(seed).integers(len(values), size=(RESAMPLES, len(values)))
    low, high = np.percentile(values[drawn].mean(axis=1), (2.5, 97.5))
    return float(low), float(high)


def wilson(successes: int, count: int) -> tuple[float, float]:
    """Return Wilson's score interval of a share (Wilson 1927); it stays within 0 and 1."""
    share = successes / count
    centre = (share + Z * Z / (2 * count)) / (1 + Z * Z / count)
    spread = Z / (1 + Z * Z / count) * math.sqrt(share * (1 - share) / count + Z * Z / (4 * count * count))
    # At 0 and at 1 the bound is exact; rounding must not push it past the share.
    return (0.0 if successes == 0 else centre - spread), (1.0 if successes == count else centre + spread)
