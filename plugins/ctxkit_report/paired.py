"""Compare two models sample by sample, where both were asked the same."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ctxkit.spec.intervals import bootstrap_mean, mcnemar
from ctxkit_report.asked import FEW, text_of
from ctxkit_report.notation import NONE, SPACE, number, tokens

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ctxkit.spec import EvalReport, Sample
    from ctxkit_report.comparison import Comparison

SIGNIFICANT = 0.05
NOTE = (
    "Gained: only the second model was right; lost: only the first; p by McNemar's exact test. "
    "Else, and where prompts share a text, the mean difference of the score (of perplexity: of the loss, where less is "
    "better) with its 95 % interval by the bootstrap over texts."
)


@dataclass(frozen=True)
class Pairs:
    """Samples of one length that both of two models were asked."""

    count: int
    gained: int
    """Only the second got it right, or more of it."""
    lost: int
    p: float | None
    """Of McNemar's test; None where scores are not right or wrong."""
    difference: tuple[float, float, float] | None
    """Mean of the second less the first, and its 95 % interval; None where every sample has a text of its own and is
    right or wrong, or where texts are few."""
    few: int = 0
    """Texts that the samples share, where they are too few to tell; else 0."""

    @property
    def clear(self) -> bool:
        """Whether the two models differ beyond chance, by every test that there is."""
        if self.few:
            return False
        apart = self.difference is None or not self.difference[1] <= 0 <= self.difference[2]
        if self.p is not None:
            return self.p < SIGNIFICANT and apart
        return self.difference is not None and apart

    @property
    def tested(self) -> str:
        """The test in words: `146 gained, 0 lost, p < 0.001`; empty where scores are not right or wrong."""
        if self.p is None:
            return ""
        said = f"{self.gained:,} gained, {self.lost:,} lost, {probability(self.p)}"
        chance = self.p < SIGNIFICANT and not self.clear
        why = f"though over {self.few} texts alone" if self.few else "though not beyond chance over texts"
        return f"{said}, {why}" if chance else said

    def __str__(self) -> str:
        """Return the test, the mean difference, or both."""
        said = [self.tested] if self.tested else []
        if self.difference is not None:
            middle, low, high = self.difference
            said.append(f"{_signed(middle)}{SPACE}[{_signed(low)},{SPACE}{_signed(high)}]")
        return "; ".join(said) or NONE


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
    before, after = _samples(first, length), _samples(second, length)
    return _pairs([(before[key], after[key]) for key in before if key in after])


def named_pairs(
    task: str, first: EvalReport | None, second: EvalReport | None, length: int
) -> Iterator[tuple[str, Pairs]]:
    """Yield the pairs of a length that can be tested, with their name: one, or one for each task within an eval.

    Scores of different tasks have different scales, so no mean is taken over them.
    """
    if first is None or second is None:
        return
    for part in dict.fromkeys(task_of(sample) for sample in second.samples if sample.length == length):
        found = pairs(_part(first, part), _part(second, part), length)
        if found and (found.p is not None or found.difference is not None):
            yield f"{task}: {part}" if part else task, found


def task_of(sample: Sample) -> str:
    """Return the task of a sample within an eval of many, such as `vt` of RULER; else nothing."""
    return str(sample.metadata.get("task", ""))


def paired_rows(comparison: Comparison) -> tuple[PairedRow, ...]:
    """Write out every test of the result against the model before and against the control."""
    run = comparison.run
    rivals = [column for column in comparison.columns if column.stage != run.result]
    tasks = dict.fromkeys(item.report.task for item in run.evals if item.stage == run.result)
    return tuple(
        PairedRow(name, tokens(length), f"{rival.stage} → {run.result}", f"{found.count:,}", str(found))
        for task in tasks
        for length in _lengths(run.report(run.result, task))
        for rival in rivals
        for name, found in named_pairs(task, run.report(rival.stage, task), run.report(run.result, task), length)
    )


def probability(p: float) -> str:
    """Write a p value: `p < 0.001`, `p = 0.03`."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def _lengths(report: EvalReport | None) -> list[int]:
    return sorted({sample.length for sample in report.samples}) if report else []


def _part(report: EvalReport, part: str) -> EvalReport:
    return replace(report, samples=tuple(sample for sample in report.samples if task_of(sample) == part))


def _samples(report: EvalReport, length: int) -> Mapping[tuple[str, float | None], Sample]:
    return {(sample.id, sample.depth): sample for sample in report.samples if sample.length == length}


def _pairs(found: Sequence[tuple[Sample, Sample]]) -> Pairs | None:
    if not found:
        return None
    gaps = [after.score - before.score for before, after in found]
    gained, lost = sum(gap > 0 for gap in gaps), sum(gap < 0 for gap in gaps)
    by_text: dict[object, list[float]] = {}
    for (sample, _), gap in zip(found, gaps, strict=True):
        by_text.setdefault(text_of(sample), []).append(gap)
    binary = all(sample.score in (0, 1) for pair in found for sample in pair)
    alone = binary and len(by_text) == len(gaps)
    few = 0 if alone or len(by_text) >= FEW else len(by_text)
    difference = None if alone or few else _mean(list(by_text.values()))
    return Pairs(len(gaps), gained, lost, mcnemar(gained, lost) if binary else None, difference, few)


def _mean(groups: Sequence[Sequence[float]]) -> tuple[float, float, float]:
    """Return the mean over all, and its interval where each group is drawn as a whole."""
    sizes = [len(group) for group in groups]
    means = [sum(group) / len(group) for group in groups]
    low, high = bootstrap_mean(means, seed=0, weights=sizes)
    return sum(map(sum, groups)) / sum(sizes), low, high


def _signed(value: float) -> str:
    return f"+{number(value)}" if value > 0 else number(value)
