"""Chart what other evals than perplexity and passkey measured by context length."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ctxkit_report.comparison import METRICS
from ctxkit_report.figures import LineChart, Point, Series
from ctxkit_report.notation import SPACE, estimate, tokens

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ctxkit.spec import Measurement
    from ctxkit_report.collect import Run

_STYLES = 4
"""Colours of the lines, after which they repeat."""


def other_charts(run: Run) -> tuple[LineChart, ...]:
    """Draw a chart for each metric whose name is one word, with what is named after it, such as `mae` and `naive_mae`.

    A line stands for a metric of a stage, or of all stages that agree on it. What was measured at one length is left to
    the table.
    """
    known = {metric.task for metric in METRICS}
    groups: dict[tuple[str, int], dict[str, Sequence[Measurement]]] = {}
    for item in run.evals:
        if item.report.task not in known:
            groups.setdefault((item.report.task, item.number), {})[item.stage] = item.report.measurements
    return tuple(chart for (task, _), stages in sorted(groups.items()) for chart in _charts(task, stages))


def _charts(task: str, stages: Mapping[str, Sequence[Measurement]]) -> Iterator[LineChart]:
    names = dict.fromkeys(item.metric for items in stages.values() for item in items)
    for main in (name for name in names if "_" not in name):
        members = [name for name in names if name == main or name.endswith(f"_{main}")]
        series = _series(stages, members)
        if len({point.x for one in series for point in one.points}) > 1:
            yield LineChart(f"{task}: {main}", "context length (tokens, log scale)", main, series, "length")


def _series(stages: Mapping[str, Sequence[Measurement]], metrics: Sequence[str]) -> tuple[Series, ...]:
    found: list[tuple[str, tuple[Point, ...]]] = []
    for metric in metrics:
        lines = {stage: _points(items, stage, metric) for stage, items in stages.items()}
        alike = len({tuple((point.x, point.y) for point in points) for points in lines.values()}) == 1
        for stage, points in list(lines.items())[: 1 if alike else None]:
            found.append((metric if alike else f"{stage}, {metric}", points))
    drawn = [(label, points) for label, points in found if points]
    return tuple(Series(label, f"series other-{n % _STYLES}", points) for n, (label, points) in enumerate(drawn))


def _points(items: Sequence[Measurement], stage: str, metric: str) -> tuple[Point, ...]:
    return tuple(
        Point(item.length, item.value, item.low, item.high, _note(stage, item))
        for item in sorted(items, key=lambda item: item.length)
        if item.metric == metric and item.depth is None
    )


def _note(stage: str, item: Measurement) -> str:
    return f"{stage}, {item.metric}, {tokens(item.length)} tokens: {estimate(item)}, n{SPACE}={SPACE}{item.count}"
