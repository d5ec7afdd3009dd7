"""Turn a run into the tables of its report: training, other evals, provenance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ctxkit_report.comparison import PASSKEY, Comparison
from ctxkit_report.notation import NONE, SPACE, Estimate, count_range, duration, estimate, flops, number, rope, tokens

if TYPE_CHECKING:
    from ctxkit.spec import Measurement
    from ctxkit_report.collect import Run


@dataclass(frozen=True)
class TrainingRow:
    """One stage, written out."""

    stage: str
    role: str
    start: str
    rope: str
    length: str
    steps: str
    tokens: str
    seconds: str
    flops: str


@dataclass(frozen=True)
class EvalRow:
    """One measurement over the stages."""

    metric: str
    length: str
    depth: str
    cells: tuple[Estimate | None, ...]
    count: str


@dataclass(frozen=True)
class EvalTable:
    """One eval, with a column for each stage that it ran on."""

    task: str
    stages: tuple[str, ...]
    rows: tuple[EvalRow, ...]
    deep: bool
    """Whether any row has a depth."""


def training_rows(comparison: Comparison) -> tuple[TrainingRow, ...]:
    """Write out every stage of the run."""
    return tuple(
        TrainingRow(
            stage.name,
            _role(comparison, stage.name),
            stage.start or NONE,
            rope(stage.rope),
            number(stage.length),
            number(stage.steps),
            number(stage.tokens),
            duration(stage.seconds),
            flops(stage.flops),
        )
        for stage in comparison.run.stages
    )


def other_evals(comparison: Comparison) -> tuple[EvalTable, ...]:
    """Gather every measurement that the comparison, the heatmaps and the charts by position do not show."""
    groups: dict[tuple[str, int, str], list[tuple[str, Measurement]]] = {}
    for item in comparison.run.evals:
        measured = (each for each in item.report.measurements if each.positions is None)
        left = (each for each in measured if not comparison.holds(item, each.metric))
        deep = PASSKEY.name if comparison.role(item.stage) else None  # in the heatmaps
        rest = [(item.stage, each) for each in left if each.depth is None or each.metric != deep]
        if rest:
            groups.setdefault((item.report.task, item.number, comparison.run.named(item)), []).extend(rest)
    return tuple(_eval_table(name, found) for (_, _, name), found in sorted(groups.items()))


def failures(run: Run) -> tuple[tuple[str, str], ...]:
    """Name every cell of an eval that could not be measured, with the reason."""
    return tuple(
        (f"{item.stage}, {run.named(item)}: {name}", why)
        for item in run.evals
        for name, why in item.report.failures.items()
    )


def method_rows(run: Run) -> tuple[tuple[str, str], ...]:
    """Say how each eval was measured, once for all stages that agree."""
    methods: dict[tuple[str, str], list[str]] = {}
    for item in run.evals:
        said = ", ".join(f"{key} {value}" for key, value in item.report.metadata.items())
        if said:
            methods.setdefault((run.named(item), said), []).append(item.stage)
    return tuple((f"{task} ({', '.join(dict.fromkeys(stages))})", said) for (task, said), stages in methods.items())


def flatten(value: object, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield every leaf of nested mappings and lists with its dotted path."""
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from flatten(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list) and any(isinstance(item, (dict, list)) for item in value):
        for place, item in enumerate(value):
            yield from flatten(item, f"{path}.{place}")
    elif isinstance(value, list):
        yield path, ", ".join(str(item) for item in value) or NONE
    elif path:
        yield path, NONE if value is None or value in ("", {}) else str(value)


def _role(comparison: Comparison, stage: str) -> str:
    """Name the part a stage plays, unless its name says so already."""
    role = comparison.role(stage) or ""
    return "" if role == stage else role


def _eval_table(task: str, found: list[tuple[str, Measurement]]) -> EvalTable:
    stages = tuple(dict.fromkeys(stage for stage, _ in found))
    by_key: dict[tuple[str, int, float | None], dict[str, Measurement]] = {}
    for stage, item in found:
        by_key.setdefault((item.metric, item.length, item.depth), {})[stage] = item
    order = sorted(by_key, key=lambda key: (key[0], key[1], key[2] is not None, key[2] or 0.0))
    rows = tuple(_eval_row(key, by_key[key], stages) for key in order)
    return EvalTable(task, stages, rows, any(depth is not None for _, _, depth in by_key))


def _eval_row(
    key: tuple[str, int, float | None], measured: Mapping[str, Measurement], stages: tuple[str, ...]
) -> EvalRow:
    metric, length, depth = key
    cells = tuple(estimate(measured[stage]) if stage in measured else None for stage in stages)
    written = NONE if depth is None else f"{100 * depth:.3g}{SPACE}%"
    return EvalRow(metric, tokens(length), written, cells, count_range([item.count for item in measured.values()]))
