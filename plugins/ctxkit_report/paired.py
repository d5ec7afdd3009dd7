"""Compare two models sample by sample, where both were asked the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ctxkit.spec.intervals import bootstrap_mean, mcnemar
from ctxkit_report.notation import NONE, SPACE, number

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ctxkit.spec import EvalReport
    from ctxkit_report.comparison import Comparison

SIGNIFICANT = 0.05
_FEW = 5
"""Pairs below which an interval of their differences means nothing."""


@dataclass(frozen=True)
class Pairs:
    """Samples of one length that both of two models were asked."""

    count: int
    gained: int
    """Only the second got it right."""
    lost: int
    """Only the first did."""
    p: float | None
    """Of McNemar's test; None where scores are not right or wrong."""
    difference: tuple[float, float, float] | None
    """Mean of the second less the first, and its 95 % interval; None where scores are right or wrong, or few."""

    @property
    def clear(self) -> bool:
        """Whether the two models differ beyond chance."""
        if self.p is not None:
            return self.p < SIGNIFICANT
        return self.difference is not None and not self.difference[1] <= 0 <= self.difference[2]

    def __str__(self) -> str:
        """Return `146 gained, 0 lost, p < 0.001`, or the mean difference."""
        if self.p is not None:
            return f"{self.gained:,} gained, {self.lost:,} lost, {probability(self.p)}"
        if self.difference is None:
            return NONE
        middle, low, high = self.difference
        return f"{_signed(middle)}{SPACE}[{_signed(low)},{SPACE}{_signed(high)}]"


@dataclass(frozen=True)
class PairedRow:
    """One test, written out."""

    task: str
    length: str
    models: str
    count: str
    said: str


def pairs(first: EvalReport | None, second: EvalReport | None, length: int) -> Pairs | None:
    """Return the pairs of a length; None where the two were asked nothing in common."""
    if first is None or second is None:
        return None
    before, after = _scores(first, length), _scores(second, length)
    return _pairs([(before[key], after[key]) for key in before if key in after])


def paired_rows(comparison: Comparison) -> tuple[PairedRow, ...]:
    """Write out every test of the result against the model before and against the control."""
    run = comparison.run
    rivals = [column for column in comparison.columns if column.stage != run.result]
    tasks = dict.fromkeys(item.report.task for item in run.evals if item.stage == run.result)
    return tuple(
        PairedRow(task, f"{length:,}", f"{rival.stage} → {run.result}", f"{found.count:,}", str(found))
        for task in tasks
        for length in _lengths(run.report(run.result, task))
        for rival in rivals
        if (found := pairs(run.report(rival.stage, task), run.report(run.result, task), length))
        and (found.p is not None or found.difference is not None)
    )


def probability(p: float) -> str:
    """Write a p value: `p < 0.001`, `p = 0.03`."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def _lengths(report: EvalReport | None) -> list[int]:
    return sorted({sample.length for sample in report.samples}) if report else []


def _scores(report: EvalReport, length: int) -> Mapping[tuple[str, float | None], float]:
    return {(sample.id, sample.depth): sample.score for sample in report.samples if sample.length == length}


def _pairs(scores: Sequence[tuple[float, float]]) -> Pairs | None:
    if not scores:
        return None
    if all(score in (0, 1) for pair in scores for score in pair):
        gained, lost = scores.count((0, 1)), scores.count((1, 0))
        return Pairs(len(scores), gained, lost, mcnemar(gained, lost), None)
    gaps = [after - before for before, after in scores]
    gained, lost = sum(gap > 0 for gap in gaps), sum(gap < 0 for gap in gaps)
    few = len(gaps) < _FEW
    found = None if few else (sum(gaps) / len(gaps), *bootstrap_mean(gaps, seed=0))
    return Pairs(len(gaps), gained, lost, None, found)


def _signed(value: float) -> str:
    return f"+{number(value)}" if value > 0 else number(value)
