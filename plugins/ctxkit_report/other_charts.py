"""Chart what other evals than perplexity and passkey measured by context length."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ctxkit_report.charts import coloured, labelled, points
from ctxkit_report.comparison import METRICS
from ctxkit_report.figures import OTHERS, LineChart, Series

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ctxkit.spec import Measurement
    from ctxkit_report.collect import Run
    from ctxkit_report.comparison import Comparison


def other_tasks(run: Run) -> tuple[str, ...]:
    """Name the tasks that are not compared in the first tables."""
    known = {metric.task for metric in METRICS}
    return tuple(dict.fromkeys(item.report.task for item in run.evals if item.report.task not in known))


def other_charts(comparison: Comparison) -> tuple[LineChart, ...]:
    """Draw a chart for each metric, together with those that are named after it, such as `mae` and `naive_mae`.

    A line stands for a metric of a stage, or of all stages that agree on it. What was measured at one length is left to
    the table.
    """
    groups: dict[tuple[str, int, str], dict[str, Sequence[Measurement]]] = {}
    for item in comparison.run.evals:
        if item.report.task in other_tasks(comparison.run):
            place = (item.report.task, item.number, comparison.run.named(item))
            groups.setdefault(place, {})[item.stage] = item.report.measurements
    return tuple(
        chart for (_, _, name), stages in sorted(groups.items()) for chart in _charts(comparison, name, stages)
    )


def _charts(comparison: Comparison, task: str, stages: Mapping[str, Sequence[Measurement]]) -> Iterator[LineChart]:
    names = dict.fromkeys(item.metric for items in stages.values() for item in items)
    for main in (name for name in names if not any(name.endswith(f"_{other}") for other in names)):
        lines = list(_stage_lines(comparison, stages, main))
        for other in (name for name in names if name.endswith(f"_{main}")):
            lines += _baselines(stages, other, first=len(lines))
        if len({point.x for one in lines for point in one.points}) > 1:
            share = main == "accuracy"
            axis = "context length (tokens, log scale)"
            yield LineChart(f"{task}: {main}", axis, main, tuple(lines), "length", percent=share)


def _stage_lines(comparison: Comparison, stages: Mapping[str, Sequence[Measurement]], metric: str) -> Iterator[Series]:
    for stage, items in stages.items():
        if line := points(_whole(items, metric)):
            yield Series(labelled(comparison, stage), coloured(comparison, stage), line)


def _baselines(stages: Mapping[str, Sequence[Measurement]], metric: str, first: int) -> list[Series]:
    """Return a line for each stage, or one for all that agree."""
    lines = {stage: line for stage, items in stages.items() if (line := points(_whole(items, metric)))}
    alike = len({tuple((point.x, point.y) for point in line) for line in lines.values()}) == 1
    shown = list(lines.items())[: 1 if alike else None]
    return [
        Series(metric if alike else f"{stage}, {metric}", f"other-{(first + place) % OTHERS}", line)
        for place, (stage, line) in enumerate(shown)
    ]


def _whole(items: Sequence[Measurement], metric: str) -> Iterator[Measurement]:
    return (item for item in items if item.metric == metric and item.depth is None and item.positions is None)
