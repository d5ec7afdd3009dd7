"""95 % intervals of perplexity: the bootstrap over documents."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ctxkit.spec.intervals import bootstrap_mean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike

FEW = 5
"""Documents below which an interval over them says little."""


def bootstrap_perplexity(
    sums: ArrayLike, tokens: ArrayLike, documents: Sequence[str], seed: int
) -> tuple[float, float]:
    """Return the percentile interval of `exp(mean loss)` over documents drawn with replacement.

    `sums` holds the summed negative log-likelihood of each text in nats, `tokens` how many tokens that is, for each
    text or for all. Texts of one document, named alike in `documents`, are drawn together, because they are not
    independent. With a single document its texts are drawn instead, and the interval says nothing of other documents:
    a single text has one without any width. Below `FEW` documents it is too narrow, and says little; `described` says
    so.
    """
    names, owner = np.unique(np.asarray(documents), return_inverse=True)
    if len(names) == 1:
        owner = np.arange(len(documents))
    losses = np.bincount(owner, weights=np.asarray(sums, dtype=np.float64))
    counts = np.bincount(owner, weights=np.broadcast_to(np.asarray(tokens, dtype=np.float64), owner.shape))
    low, high = bootstrap_mean(losses / counts, seed, counts)
    return float(np.exp(low)), float(np.exp(high))


def described(documents: int) -> str:
    """Return in words what `bootstrap_perplexity` does, for the metadata of a report."""
    if documents >= FEW:
        return "bootstrap 95 % over documents"
    if documents == 1:
        return "bootstrap 95 % over the texts of 1 document: too few to be trusted"
    return f"bootstrap 95 % over {documents} documents: too few to be trusted"
