"""Say in plain words what a run achieved, from measured values alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ctxkit_report.asked import UNLIKE, apart, asked_alike
from ctxkit_report.comparison import PASSKEY, TAIL, WHOLE, Comparison, Metric
from ctxkit_report.notation import SPACE, TIMES, count_range, estimate, number, overlap
from ctxkit_report.paired import Pairs, named_pairs, pairs
from ctxkit_report.recipes import read_recipe

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ctxkit.spec import EvalReport, Measurement
    from ctxkit_report.collect import Run

_UNTOUCHED = "model"
"""The name of the model that a recipe starts with."""
_UNCHANGED = "are unchanged within noise"
_MOST = 3
"""Short tasks that are named of those that changed; the table of the page has all."""
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
class _Rival:
    """What the result is set against at one length: the model before, or the control."""

    value: Measurement
    same: Pairs | None
    """This one and the result, on the same prompts."""
    apart: bool
    """Whether the two differ beyond chance."""


@dataclass(frozen=True)
class _Finding:
    """One metric at one length: after, and what was asked the same of the model before and of the control."""

    metric: Metric
    length: int
    after: Measurement
    before: _Rival | None
    control: _Rival | None
    unlike: tuple[str, ...]
    """Who was measured at this length, but not asked the same."""

    @property
    def clear(self) -> bool:
        """Whether it got better, beyond chance."""
        return self.before is not None and self.before.apart and self._over(self.before)

    @property
    def matched(self) -> bool:
        """Whether the control did as well, or better, as far as one can tell."""
        return self.control is not None and not (self.control.apart and self._over(self.control))

    @property
    def beaten(self) -> bool:
        """Whether the control did clearly better."""
        control = self.control
        differs = control is not None and control.apart and control.value.value != self.after.value
        return differs and control is not None and not self._over(control)

    def _over(self, rival: _Rival) -> bool:
        return rival.value.value != self.after.value and (self.after.value > rival.value.value) is self.metric.rising


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
    run = comparison.run
    report = run.report(run.result, metric.task)
    after = comparison.pooled(metric, run.result).get(length)
    if report is None or after is None:
        return None
    rivals, unlike = {}, []
    for role, who in (("before", "the model before"), ("control", "the control")):
        stage = comparison.stage(role)
        found, value = run.report(stage, metric.task), comparison.pooled(metric, stage).get(length)
        if found and value and asked_alike(found, report, length):
            rivals[role] = _rival(metric, (found, value), (report, after))
        elif value:
            unlike.append(who)
    return _Finding(metric, length, after, rivals.get("before"), rivals.get("control"), tuple(unlike))


def _rival(metric: Metric, rival: tuple[EvalReport, Measurement], result: tuple[EvalReport, Measurement]) -> _Rival:
    # The scores of perplexity are of whole windows: they say nothing of the last quarter alone.
    same = None if metric is TAIL else pairs(rival[0], result[0], result[1].length)
    return _Rival(rival[1], same, apart(rival, result, same))


def _lead(comparison: Comparison, main: _Finding) -> str:
    original, window = comparison.original, comparison.window
    if not original or not window or window <= original:
        return f"Measured at up to {main.length} tokens"
    factor = f"{window / original:.3g}{TIMES}"
    if main.clear and not main.matched and main.length >= window:
        return f"{factor} the window: from {original} to {window} tokens"
    return f"Window set to {window} tokens ({factor}){_gain(original, window, main)}"


def _gain(original: int, window: int, main: _Finding) -> str:
    """Say what a window that was set brought, as far as it was measured."""
    if main.length <= original:
        return f", measured at up to {main.length} tokens"
    if main.clear and main.matched:
        said = "but the control did better" if main.beaten else "but no clear gain over the control"
        return f": better than before, {said} in {main.metric.phrase}"
    if main.clear:
        return f": better than before at {main.length} tokens, not measured at {window}"
    if main.before is None:
        return ", not compared with the model before"
    return f", without a clear gain in {main.metric.phrase}"


def _sentence(finding: _Finding) -> str:
    where = f"At {finding.length} tokens {finding.metric.phrase}"
    after, before, control = estimate(finding.after), finding.before, finding.control
    text = f"{where} {_since(before, finding.after)}" if before else f"{where} is {after}"
    if control is not None:
        meets = ", so their intervals overlap" if overlap(control.value, finding.after) else ""
        meets = ", which is better" if finding.beaten else meets
        text += f"; the control without scaling reached {estimate(control.value)}{meets}"
    if finding.unlike:
        text += f"; {' and '.join(finding.unlike)} {'were' if len(finding.unlike) > 1 else 'was'} {UNLIKE}"
    return f"{text}."


def _since(before: _Rival, after: Measurement) -> str:
    """Say what changed; where intervals do not meet, and yet nothing is proved, say why."""
    few = not before.apart and not overlap(before.value, after) and not (before.same and not before.same.few)
    return _change(before.value, after) + (", of too few texts to tell" if few else "")


def _pair_by_pair(finding: _Finding) -> tuple[str, ...]:
    """Say what became of the same prompts, by McNemar's test."""
    rivals = (("before", finding.before), ("the control", finding.control))
    tested = [(who, rival.same) for who, rival in rivals if rival and rival.same and rival.same.tested]
    if not tested:
        return ()
    count = tested[0][1].count  # one for all: rivals are those that were asked what the result was
    said = "; ".join(f"against {who} {same.tested}" for who, same in tested)
    return (f"Prompt by prompt, on the same {count:,}: {said} (McNemar's exact test).",)


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
        found = list(named_pairs(task, run.report(before, task), run.report(run.result, task), 0))
        if len(found) == 1:
            (name, same), changed = found[0], "changed beyond chance" if found[0][1].clear else _UNCHANGED
            yield f"Short tasks ({name}) {changed}, on the same {same.count:,} samples: {same.tested or same}."
        elif found:
            yield _several(task, found)


def _several(task: str, found: Sequence[tuple[str, Pairs]]) -> str:
    """Say which of several tasks changed; each has a test of its own, so one in twenty does by chance."""
    changed = [f"{name.removeprefix(f'{task}: ')} ({same})" for name, same in found if same.clear]
    if not changed:
        return f"Short tasks ({len(found)} of {task}) {_UNCHANGED}, each on the same samples."
    named = ", ".join(changed[:_MOST]) + (", …" if len(changed) > _MOST else "")
    tested = f"each tested at 5{SPACE}% on the same samples"
    return f"Of {len(found)} short tasks ({task}) {len(changed)} changed, {tested}: {named}."


def _cost(finding: _Finding, before: _Rival) -> str:
    old, new = estimate(before.value), estimate(finding.after)
    if old.value == new.value or (before.apart and not overlap(before.value, finding.after)):
        return _change(before.value, finding.after)
    if not before.apart and not overlap(before.value, finding.after):
        return _since(before, finding.after)
    if not before.apart:
        return f"is unchanged within noise: {old} before, {new} after"
    gap = before.same.difference if before.same else None
    shares = [f"{100 * math.expm1(part):+.2g}" for part in gap or ()]
    by = f": by {shares[0]}{SPACE}%{SPACE}[{shares[1]},{SPACE}{shares[2]}] on the same texts" if shares else ""
    return f"went from {old} to {new}, which is little but no chance{by}"


def _counts(found: list[_Finding]) -> str:
    parts = []
    for finding in found:
        rivals = [rival.value for rival in (finding.before, finding.control) if rival]
        items = [*rivals, finding.after]
        parts.append(f"n{SPACE}={SPACE}{count_range([item.count for item in items])} {finding.metric.unit}")
    return f"Brackets are 95{SPACE}% intervals; {' and '.join(parts)} per model."


def _nothing(comparison: Comparison) -> str:
    run = comparison.run
    if run.result is None:
        return "No result yet: the run does not name a result stage"
    evals = [item.report for item in run.evals if item.stage == run.result]
    if other := sorted({report.task for report in evals if report.measurements}):
        return f"The result stage {run.result} was measured with {', '.join(other)}; see below"
    if evals:
        return f"Nothing could be measured of the result stage {run.result}; see below"
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
