"""95 % intervals and a paired test, for evals: Wilson's, the bootstrap, McNemar's."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

Z = 1.959963984540054
"""The 97.5 % quantile of the normal distribution."""
RESAMPLES = 2000


def wilson(successes: float, count: float) -> tuple[float, float]:
    """Return Wilson's score interval of a share (Wilson 1927); unlike the plain one it stays within 0 and 1.

    The count need not be whole: it may be that of independent samples that would vary as much as those at hand.
    """
    share = successes / count
    centre = (share + Z * Z / (2 * count)) / (1 + Z * Z / count)
    spread = Z / (1 + Z * Z / count) * math.sqrt(share * (1 - share) / count + Z * Z / (4 * count * count))
    # At 0 and at 1 the bound is exact; rounding must not push it past the share.
    return (0.0 if successes == 0 else centre - spread), (1.0 if successes == count else centre + spread)


def bootstrap_mean(
    values: Sequence[float] | NDArray[Any], seed: int, weights: Sequence[float] | NDArray[Any] | None = None
) -> tuple[float, float]:
    """Return the percentile interval of the mean of values drawn with replacement, each with its weight.

    Efron 1979. What is not independent, such as windows of one document, belongs into one value with its weight.
    """
    import numpy as np

    numbers = np.asarray(values, dtype=np.float64)
    weighed = np.ones_like(numbers) if weights is None else np.asarray(weights, dtype=np.float64)
    drawn = np.random.default_rng(seed).integers(len(numbers), size=(RESAMPLES, len(numbers)))
    means = (numbers * weighed)[drawn].sum(axis=1) / weighed[drawn].sum(axis=1)
    low, high = np.percentile(means, (2.5, 97.5))
    return float(low), float(high)


def mcnemar(gained: int, lost: int) -> float:
    """Return the exact two-sided p of McNemar's test (McNemar 1947): samples that only one of two models got right.

    Under the null each of them is as likely gained as lost, so the count is binomial.
    """
    count = gained + lost
    tail = sum(math.comb(count, k) for k in range(min(gained, lost) + 1))
    return min(1.0, float(2 * tail / 2**count))
