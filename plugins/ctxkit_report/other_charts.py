"""Chart what other evals than perplexity and passkey measured by context length."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ctxkit_report.charts import points
from ctxkit_report.comparison import METRICS
from ctxkit_report.figures import OTHERS, LineChart, Point, Series

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ctxkit.spec import Measurement
    from ctxkit_report.collect import Run


def other_tasks(run: Run) -> tuple[str, ...]:
    """Name the tasks that are not compared in the first tables."""
    known = {metric.task for metric in METRICS}
    return tuple(dict.fromkeys(item.report.task for item in run.evals if item.report.task not in known))


def other_charts(run: Run) -> tuple[LineChart, ...]:
    """Draw a chart for each metric, together with those that are named after it, such as `mae` and `naive_mae`.

    A line stands for a metric of a stage, or of all stages that agree on it. What was measured at one length is left to
    the table.
    """
    groups: dict[tuple[str, int], dict[str, Sequence[Measurement]]] = {}
    for item in run.evals:
        if item.report.task in other_tasks(run):
            groups.setdefault((item.report.task, item.number), {})[item.stage] = item.report.measurements
    return tuple(chart for (task, _), stages in sorted(groups.items()) for chart in _charts(task, stages))


def _charts(task: str, stages: Mapping[str, Sequence[Measurement]]) -> Iterator[LineChart]:
    names = dict.fromkeys(item.metric for items in stages.values() for item in items)
    for main in (name for name in names if not any(name.endswith(f"_{other}") for other in names)):
        members = [name for name in names if name == main or name.endswith(f"_{main}")]
        series = _series(stages, members)
        if len({point.x for one in series for point in one.points}) > 1:
            share = main == "accuracy"
            yield LineChart(
                f"{task}: {main}", "context length (tokens, log scale)", main, series, "length", percent=share
            )


def _series(stages: Mapping[str, Sequence[Measurement]], metrics: Sequence[str]) -> tuple[Series, ...]:
    found: list[tuple[str, tuple[Point, ...]]] = []
    for metric in metrics:
        lines = {stage: points(_whole(items, metric)) for stage, items in stages.items()}
        alike = len({tuple((point.x, point.y) for point in line) for line in lines.values()}) == 1
        for stage, line in list(lines.items())[: 1 if alike else None]:
            found.append((metric if alike else f"{stage}, {metric}", line))
    drawn = [(label, line) for label, line in found if line]
    return tuple(Series(label, f"other-{n % OTHERS}", line) for n, (label, line) in enumerate(drawn))


def _whole(items: Sequence[Measurement], metric: str) -> Iterator[Measurement]:
    return (item for item in items if item.metric == metric and item.depth is None and item.positions is None)
