"""95 % intervals of the metrics of lm-evaluation-harness, also where it has no standard error of them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ctxkit.spec.intervals import Z, bootstrap_mean, wilson

if TYPE_CHECKING:
    from collections.abc import Sequence

INTERVAL = (
    "95 %: Wilson where every score is 0 or 1, else 1.96 standard errors of lm-eval; where it gives none, the "
    "bootstrap over samples"
)


def interval(value: float, error: object, scores: Sequence[Any], seed: int) -> tuple[float, float] | None:
    """Return the 95 % interval of a metric of lm-eval; None where nothing tells how certain it is.

    `error` is its standard error, no number where lm-eval has none; `scores` are those of the samples.
    """
    plain = [float(score) for score in scores if isinstance(score, int | float)]
    mean = bool(plain) and len(plain) == len(scores) and math.isclose(sum(plain) / len(plain), value, rel_tol=1e-6)
    if mean and set(plain) <= {0.0, 1.0}:
        return wilson(sum(plain), len(plain))
    if isinstance(error, int | float) and math.isfinite(error):
        return value - Z * error, value + Z * error
    if mean and len(plain) > 1:
        return bootstrap_mean(plain, seed)
    return _of_likelihoods(value, scores, seed)


def _of_likelihoods(value: float, scores: Sequence[Any], seed: int) -> tuple[float, float] | None:
    """Return the interval of a perplexity or of bits a byte, whose samples are a log-likelihood and its weight each."""
    if len(scores) < 2 or any(not isinstance(score, tuple | list) or len(score) != 2 for score in scores):
        return None
    sums, weights = ([float(score[place]) for score in scores] for place in (0, 1))
    if min(weights) <= 0:
        return None
    mean = -sum(sums) / sum(weights)
    low, high = bootstrap_mean([-each / weight for each, weight in zip(sums, weights, strict=True)], seed, weights)
    for fold in (math.exp, lambda nats: nats / math.log(2)):
        if math.isclose(fold(mean), value, rel_tol=1e-6):
            return fold(low), fold(high)
    return None
