"""Say in plain words what a run achieved, from measured values alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ctxkit_report.comparison import METRICS, PASSKEY, TAIL, WHOLE, Comparison, Metric
from ctxkit_report.notation import SPACE, TIMES, count_range, estimate, number, overlap
from ctxkit_report.paired import Pairs, pairs
from ctxkit_report.recipes import read_recipe

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ctxkit.spec import Measurement
    from ctxkit_report.collect import Run

_UNTOUCHED = "model"
"""The name of the model that a recipe starts with."""
_STATUS = {
    "running": "The run is still going",
    "failed": "The run failed",
    "preempted": "The run was preempted; the same command goes on with it",
    "unknown": "The run has not written its status",
}


@dataclass(frozen=True)
class Headline:
    """The claim, and the measurements it stands on."""

    lead: str
    sentences: tuple[str, ...]

    def __str__(self) -> str:
        """Return the claim and its sentences as one paragraph."""
        return " ".join((f"{self.lead}.", *self.sentences))


@dataclass(frozen=True)
class _Finding:
    """One metric at one length: before, control, after, and the same prompts pair by pair."""

    metric: Metric
    length: int
    after: Measurement
    before: Measurement | None
    control: Measurement | None
    since: Pairs | None
    """Before and after."""
    against: Pairs | None
    """Control and after."""

    @property
    def clear(self) -> bool:
        """Whether it got better, beyond chance."""
        return self.before is not None and self._better(self.after, self.before, self.since)

    @property
    def matched(self) -> bool:
        """Whether the control did as well, or better, as far as one can tell."""
        return self.control is not None and not self._better(self.after, self.control, self.against)

    @property
    def beaten(self) -> bool:
        """Whether the control did clearly better."""
        return self.control is not None and self._better(self.control, self.after, self.against)

    def _better(self, one: Measurement, other: Measurement, same: Pairs | None) -> bool:
        """Go by the same prompts where there are, else by intervals that do not meet."""
        clear = same.clear if same else not overlap(one, other)
        return clear and (one.value > other.value) is self.metric.rising


def headline(comparison: Comparison) -> Headline:
    """Compare at the extended window, or at the longest length that was measured within it."""
    found = [finding for metric in (PASSKEY, TAIL) if (finding := _finding(comparison, metric))]
    if not any(finding.metric is TAIL for finding in found) and (whole := _finding(comparison, WHOLE)):
        found.append(whole)
    if not found:
        return Headline(_nothing(comparison), ())
    sentences = [_sentence(finding) for finding in found]
    tested = [said for finding in found for said in _pair_by_pair(finding)]
    short = (*_short_context(comparison), *_short_tasks(comparison))
    return Headline(_lead(comparison, found[0]), (*sentences, *tested, *short, _counts(found)))


def status_note(status: str) -> str:
    """Say what an unfinished run lacks; empty when it is done."""
    if status == "done":
        return ""
    said = f"{_STATUS.get(status, f'The run is marked {status}')}. This page shows what it has written so far."
    return f"{said} It loads itself again every few seconds." if status == "running" else said


def _finding(comparison: Comparison, metric: Metric) -> _Finding | None:
    after = comparison.pooled(metric, comparison.run.result)
    if not after:
        return None
    within = [length for length in after if comparison.most is None or length <= comparison.most]
    return _at(comparison, metric, max(within or after))


def _at(comparison: Comparison, metric: Metric, length: int) -> _Finding | None:
    result, before, control = comparison.run.result, comparison.stage("before"), comparison.stage("control")
    measured = [comparison.pooled(metric, stage).get(length) for stage in (result, before, control)]
    after = measured[0]
    if after is None:
        return None
    # The scores of perplexity are of whole windows: they say nothing of the last quarter alone.
    since, against = (
        None if metric is TAIL else _pairs(comparison, metric, each, length) for each in (before, control)
    )
    return _Finding(metric, length, after, measured[1], measured[2], since, against)


def _pairs(comparison: Comparison, metric: Metric, stage: str | None, length: int) -> Pairs | None:
    run = comparison.run
    return pairs(run.report(stage, metric.task), run.report(run.result, metric.task), length)


def _lead(comparison: Comparison, main: _Finding) -> str:
    original, window = comparison.original, comparison.window
    if not original or not window or window <= original:
        return f"Measured at up to {main.length} tokens"
    factor = f"{window / original:.3g}{TIMES}"
    if main.clear and main.matched:
        said = "but the control did better" if main.beaten else "but no clear gain over the control"
        return f"Window set to {window} tokens ({factor}): better than before, {said} in {main.metric.phrase}"
    if main.clear:
        return f"{factor} the window: from {original} to {window} tokens"
    if main.before is None:
        return f"Window set to {window} tokens ({factor}), not compared with the model before"
    return f"Window set to {window} tokens ({factor}), without a clear gain in {main.metric.phrase}"


def _sentence(finding: _Finding) -> str:
    where = f"At {finding.length} tokens {finding.metric.phrase}"
    after = estimate(finding.after)
    text = f"{where} {_change(finding.before, finding.after)}" if finding.before else f"{where} is {after}"
    if finding.control is not None:
        meets = ", so their intervals overlap" if overlap(finding.control, finding.after) else ""
        meets = ", which is better" if finding.beaten else meets
        text += f"; the control without scaling reached {estimate(finding.control)}{meets}"
    return f"{text}."


def _pair_by_pair(finding: _Finding) -> tuple[str, ...]:
    """Say what became of the same prompts, by McNemar's test."""
    tested = [(who, found) for who, found in (("before", finding.since), ("the control", finding.against)) if found]
    parts = [f"against {who} {found.tested}" for who, found in tested if found.tested]
    if not parts:
        return ()
    return (f"Prompt by prompt, on the same {tested[0][1].count:,}: {'; '.join(parts)} (McNemar's exact test).",)


def _change(before: Measurement, after: Measurement) -> str:
    old, new = estimate(before), estimate(after)
    if old.value == new.value:
        return f"stayed at {new.value} ({old.interval} before, {new.interval} after)"
    verb = "rose" if after.value > before.value else "fell"
    return f"{verb} from {old} to {new}" + (", with overlapping intervals" if overlap(before, after) else "")


def _short_context(comparison: Comparison) -> tuple[str, ...]:
    """Say what the extension cost within the original window."""
    original = comparison.original
    if original is None or original == comparison.window:
        return ()
    finding = _at(comparison, WHOLE, original)
    if finding is None or finding.before is None:
        return ()
    return (f"Within the original {original} tokens {finding.metric.phrase} {_cost(finding, finding.before)}.",)


def _short_tasks(comparison: Comparison) -> Iterator[str]:
    """Say what became of tasks without a context length, such as those of lm-evaluation-harness."""
    run, before = comparison.run, comparison.stage("before")
    for task in dict.fromkeys(item.report.task for item in run.evals if item.stage == run.result):
        found = pairs(run.report(before, task), run.report(run.result, task), 0)
        if found and (found.p is not None or found.difference is not None):
            changed = "changed beyond chance" if found.clear else "are unchanged within noise"
            yield f"Short tasks ({task}) {changed}, on the same {found.count:,} samples: {found.tested or found}."


def _cost(finding: _Finding, before: Measurement) -> str:
    old, new = estimate(before), estimate(finding.after)
    apart = finding.since.clear if finding.since else not overlap(before, finding.after)
    if old.value == new.value or (apart and not overlap(before, finding.after)):
        return _change(before, finding.after)
    if not apart:
        return f"is unchanged within noise: {old} before, {new} after"
    gap = finding.since.difference if finding.since else None
    shares = [f"{100 * math.expm1(part):+.2g}" for part in gap or ()]
    by = f": by {shares[0]}{SPACE}%{SPACE}[{shares[1]},{SPACE}{shares[2]}] on the same texts" if shares else ""
    return f"went from {old} to {new}, which is little but no chance{by}"


def _counts(found: list[_Finding]) -> str:
    parts = []
    for finding in found:
        items = [item for item in (finding.before, finding.control, finding.after) if item]
        parts.append(f"n{SPACE}={SPACE}{count_range([item.count for item in items])} {finding.metric.unit}")
    return f"Brackets are 95{SPACE}% intervals; {' and '.join(parts)} per model."


def _nothing(comparison: Comparison) -> str:
    run = comparison.run
    if run.result is None:
        return "No result yet: the run does not name a result stage"
    other = sorted({item.report.task for item in run.evals if item.stage == run.result} - {m.task for m in METRICS})
    if other:
        return f"The result stage {run.result} was measured with {', '.join(other)}; see below"
    trained = _progress(run)
    if run.status == "done":
        return f"Trained and saved; the recipe has no evals for the result stage {run.result}"
    return f"No result yet: the result stage {run.result} has no evals{trained}"


def _progress(run: Run) -> str:
    """Say how many stages have training steps; those still to come are in the recipe alone."""
    stages = read_recipe(run.recipe).get("stages")
    names = dict.fromkeys([*(stages if isinstance(stages, dict) else ()), *(stage.name for stage in run.stages)])
    known = [name for name in names if name != _UNTOUCHED]
    done = sum(name in run.losses for name in known)
    return f"; {number(done)} of {number(len(known))} stages have training steps" if known else ""
