"""A few prompts of each eval, with what every compared model wrote."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ctxkit_report.notation import NONE, SPACE, number
from ctxkit_report.paired import task_of
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
        answers = tuple(_answer(name, own) for name, found in models if (own := _same(found, sample)))
        yield Prompt(_place(sample), _cut(sample.input, front=False), _cut(sample.target), answers)


def _place(sample: Sample) -> str:
    """Return the task within an eval of many, the length and the depth, of what a sample has."""
    length = f"{sample.length:,} tokens" if sample.length else ""
    depth = f"depth {100 * sample.depth:.3g}{SPACE}%" if sample.depth is not None else ""
    return visible(", ".join(filter(None, (task_of(sample), length, depth))))


def _chosen(report: EvalReport) -> Iterator[Sample]:
    """Return the worst and the best of each length; of an eval of many tasks those of each at the longest length."""
    groups: dict[tuple[int, str], list[Sample]] = {}
    for sample in report.samples:
        if sample.output or sample.input:
            groups.setdefault((sample.length, task_of(sample)), []).append(sample)
    many = len({task for _, task in groups}) > 1
    longest = {task: max(length for length, each in groups if each == task) for _, task in groups}
    for (length, task), shown in sorted(groups.items(), key=lambda group: group[0]):
        if not many or length == longest[task]:
            yield from _worst_and_best(shown)


def _worst_and_best(samples: Sequence[Sample]) -> Iterator[Sample]:
    ordered = sorted(samples, key=lambda sample: sample.score)
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
