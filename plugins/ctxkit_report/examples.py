"""A few prompts of each eval, with what every compared model wrote."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ctxkit_report.notation import NONE, SPACE, number
from ctxkit_report.visible import visible

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ctxkit.spec import EvalReport, Sample
    from ctxkit_report.comparison import Comparison

_WRONG, _RIGHT = 2, 1
"""Samples of each kind that are shown of a length."""
_MOST_CHARACTERS = 1000


@dataclass(frozen=True)
class Answer:
    """What one model wrote."""

    model: str
    text: str
    score: str
    right: bool


@dataclass(frozen=True)
class Prompt:
    """What was asked, and the answers."""

    place: str
    input: str
    target: str
    answers: tuple[Answer, ...]


@dataclass(frozen=True)
class Examples:
    """The prompts of one eval that are shown."""

    task: str
    prompts: tuple[Prompt, ...]


def examples(comparison: Comparison) -> tuple[Examples, ...]:
    """Return, for each eval that keeps what was asked and answered, a few wrong and right prompts of each length."""
    run = comparison.run
    tasks = dict.fromkeys(item.report.task for item in run.evals if item.stage == run.result)
    found = (Examples(task, tuple(_prompts(comparison, task))) for task in tasks)
    return tuple(item for item in found if item.prompts)


def _prompts(comparison: Comparison, task: str) -> Iterator[Prompt]:
    run = comparison.run
    report = run.report(run.result, task)
    models = [
        (f"{column.title}: {column.stage}", found)
        for column in comparison.columns
        if (found := run.report(column.stage, task))
    ]
    for sample in _chosen(report) if report else ():
        where = f"{sample.length:,} tokens"
        where += f", depth {100 * sample.depth:.3g}{SPACE}%" if sample.depth is not None else ""
        answers = tuple(_answer(name, own) for name, found in models if (own := _same(found, sample)))
        yield Prompt(where, _cut(sample.input, front=False), _cut(sample.target), answers)


def _chosen(report: EvalReport) -> Iterator[Sample]:
    """Return the worst and the best of each length, in the order in which they were asked."""
    shown = [sample for sample in report.samples if sample.output or sample.input]
    for length in sorted({sample.length for sample in shown}):
        ordered = sorted((sample for sample in shown if sample.length == length), key=lambda sample: sample.score)
        yield from (sample for sample in ordered[:_WRONG] if sample.score < 1)
        yield from (sample for sample in ordered[-_RIGHT:] if sample.score >= 1)


def _same(report: EvalReport, sample: Sample) -> Sample | None:
    alike: Sequence[Sample] = [each for each in report.samples if each.id == sample.id and each.length == sample.length]
    return next((each for each in alike if each.depth == sample.depth), None)


def _answer(model: str, sample: Sample) -> Answer:
    right = sample.score >= 1
    score = ("right" if right else "wrong") if sample.score in (0, 1) else f"score {number(float(sample.score))}"
    return Answer(model, _cut(sample.output) or NONE, score, right)


def _cut(text: str, *, front: bool = True) -> str:
    """Make a text harmless to look at, and cut a long one: of a prompt the end matters."""
    kept = text[:_MOST_CHARACTERS] if front else text[-_MOST_CHARACTERS:]
    mark = "…" if len(kept) < len(text) else ""
    return visible(f"{kept}{mark}" if front else f"{mark}{kept}")
