"""Shares of right answers with their 95 % intervals, by length and depth, and the samples behind them."""

from __future__ import annotations

import hashlib
from functools import partial
from typing import TYPE_CHECKING, Any

from ctxkit.spec import EvalReport, Measurement, Sample
from ctxkit.spec.intervals import wilson

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from ctxkit.spec import Cells
    from ctxkit.spec.cells import Work

CELL = 2**18
"""Tokens that a cell reads, were nothing shared: seconds to a minute on an accelerator."""
INTERVAL = "Wilson 95 %; where prompts share a text, of as many as vary like them"


def works(
    lengths: Sequence[int], samples: int, prompts: int, cell: Callable[[int, range], list[dict[str, Any]]]
) -> dict[str, Work]:
    """Return the cells: some samples of one length each, of so many prompts a sample."""
    found: dict[str, Work] = {}
    for length in lengths:
        size = max(1, CELL // (length * prompts))
        for start in range(0, samples, size):
            group = range(start, min(start + size, samples))
            found[f"{length} tokens, samples {start + 1} to {group.stop}"] = partial(cell, length, group)
    return found


def reported(task: str, metric: str, done: Cells, metadata: Mapping[str, str | int | float]) -> EvalReport:
    """Return the report on what cells have found: the fields of samples, as plain values."""
    samples = [Sample(**each) for cell in done.found.values() for each in cell]
    prompts = hashlib.sha256("".join(sample.id for sample in samples).encode()).hexdigest()[:16]
    said = {"interval": INTERVAL, "prompts": prompts, **metadata}
    return EvalReport(task, tuple(measured(metric, samples)), tuple(samples), said, done.failed)


def digest(ids: Iterable[int]) -> str:
    """Return what names a prompt: the same for the same tokens."""
    return hashlib.sha256(b"".join(token.to_bytes(8, "little", signed=True) for token in ids)).hexdigest()[:16]


def measured(metric: str, samples: Sequence[Sample]) -> Iterator[Measurement]:
    """Yield the share for each length, and for each depth at it; scores are from 0 to 1.

    Prompts of one sample may be alike, such as those of all depths about one text, so the interval is that of
    `clustered`. The prompts of one depth are all of different samples.
    """
    for length in dict.fromkeys(sample.length for sample in samples):
        here = [sample for sample in samples if sample.length == length]
        yield _measurement(metric, here, None)
        for depth in sorted({sample.depth for sample in here if sample.depth is not None}):
            yield _measurement(metric, [sample for sample in here if sample.depth == depth], depth)


def _measurement(metric: str, samples: Sequence[Sample], depth: float | None) -> Measurement:
    by_text: dict[Any, list[float]] = {}
    for sample in samples:
        by_text.setdefault(sample.metadata.get("sample", sample.id), []).append(sample.score)
    share = sum(sample.score for sample in samples) / len(samples)
    low, high = clustered(list(by_text.values()))
    return Measurement(metric, samples[0].length, share, low, high, len(samples), depth)


def clustered(scores: Sequence[Sequence[float]]) -> tuple[float, float]:
    """Return the interval of a mean of scores from 0 to 1, where those of one group may be alike.

    Wilson's, for the count of independent answers that would vary as much as the means of the groups do: the count
    divided by the design effect (Kish 1965). It is never above the count of answers. Where all are right, or none,
    nothing can be seen of how alike they are, and each group counts once.
    """
    count = sum(len(group) for group in scores)
    share = sum(sum(group) for group in scores) / count
    return wilson(share * (size := _independent(scores, count, share)), size)


def _independent(scores: Sequence[Sequence[float]], count: int, share: float) -> float:
    """Return how many independent answers would vary as much; ratio estimator of a mean over groups."""
    number = len(scores)
    if number in (1, count):
        return number
    spread = sum((sum(group) - share * len(group)) ** 2 for group in scores)
    variance = spread * number / (number - 1) / count**2
    if variance == 0:
        return number if share in (0.0, 1.0) else count
    return min(share * (1 - share) / variance, count)
