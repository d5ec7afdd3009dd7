"""95 % intervals of perplexity: the bootstrap over documents."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

RESAMPLES = 2000


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
