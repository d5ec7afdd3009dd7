"""Turn a run into the charts of its report: perplexity by length, passkey heatmaps, loss by stage."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ctxkit_report.comparison import PASSKEY, TAIL, WHOLE, Comparison, Metric
from ctxkit_report.figures import LineChart, Marker, Point, Series, heatmap
from ctxkit_report.notation import SPACE, estimate, tokens

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ctxkit.spec import Measurement
    from ctxkit_report.collect import LossPoint, Run

_MOST_POINTS = 600
"""Points of one loss curve above which it is thinned: the picture is no wider."""
_OTHERS = 4
"""Colours for stages that play no part in the comparison."""


@dataclass(frozen=True)
class Panel:
    """The heatmap of one stage."""

    role: str
    stage: str
    columns: int
    """Lengths across."""
    svg: str


@dataclass(frozen=True)
class LossChart:
    """The loss of every stage, and whether curves were thinned."""

    chart: LineChart
    thinned: bool
    by_tokens: bool


def perplexity_charts(comparison: Comparison) -> tuple[LineChart, ...]:
    """Chart the perplexity of the whole window and of its last quarter, whichever was measured."""
    charts = (_perplexity(comparison, metric) for metric in (WHOLE, TAIL))
    return tuple(chart for chart in charts if chart.series)


def passkey_panels(comparison: Comparison) -> tuple[Panel, ...]:
    """Draw a heatmap for each compared stage on which passkey was measured."""
    return tuple(
        Panel(
            column.role,
            column.stage,
            len({item.length for item in cells}),
            heatmap(f"Passkey accuracy of {column.stage}", cells, _windows(comparison)),
        )
        for column in comparison.columns
        if (cells := _accuracies(comparison.run, column.stage))
    )


def loss_chart(comparison: Comparison) -> LossChart | None:
    """Chart the loss along the lineage: a stage begins where the stage it starts from ended."""
    run = comparison.run
    names = [name for name in _ordered(comparison) if run.losses.get(name)]
    if not names:
        return None
    by_tokens = all(_knows_tokens(run, name) for stage in names for name in _lineage(run, stage))
    series = tuple(
        Series(_label(comparison, name), _style(comparison, name), _curve(run, name, by_tokens=by_tokens))
        for name in names
    )
    unit = "tokens trained, along the lineage" if by_tokens else "steps, along the lineage"
    chart = LineChart("Training loss by stage", unit, "loss", series)
    return LossChart(chart, any(len(run.losses[name]) > _MOST_POINTS for name in names), by_tokens)


def _perplexity(comparison: Comparison, metric: Metric) -> LineChart:
    series = []
    for name in _ordered(comparison):
        measured = comparison.pooled(metric, name)
        points = tuple(
            Point(
                length,
                item.value,
                item.low,
                item.high,
                f"{name}, {tokens(length)} tokens: {estimate(item)}, n{SPACE}={SPACE}{item.count}",
            )
            for length, item in sorted(measured.items())
        )
        if points:
            series.append(Series(_label(comparison, name), _style(comparison, name), points))
    markers = tuple(Marker(length, label) for length, label in _windows(comparison).items())
    axis = "context length (tokens, log scale)"
    return LineChart(metric.title, axis, "perplexity", tuple(series), "length", markers)


def _accuracies(run: Run, stage: str) -> list[Measurement]:
    report = run.report(stage, PASSKEY.task)
    return [item for item in report.measurements if item.metric == PASSKEY.name] if report else []


def _windows(comparison: Comparison) -> Mapping[int, str]:
    windows = {comparison.original: "original", comparison.window: "extended"}
    return {length: label for length, label in windows.items() if length}


def _ordered(comparison: Comparison) -> list[str]:
    """Name every stage in the order of the run, the extended one last, so that it is drawn on top."""
    run = comparison.run
    named = [stage.name for stage in run.stages] + list(run.losses) + [item.stage for item in run.evals]
    extended = comparison.stage("extended")
    return sorted(dict.fromkeys(named), key=lambda name: name == extended)


def _label(comparison: Comparison, stage: str) -> str:
    role = comparison.role(stage)
    return f"{stage} ({role})" if role and role != stage else stage


def _style(comparison: Comparison, stage: str) -> str:
    role = comparison.role(stage)
    if role:
        return f"series {role}"
    others = [name for name in _ordered(comparison) if comparison.role(name) is None]
    return f"series other-{others.index(stage) % _OTHERS}"


def _lineage(run: Run, stage: str) -> list[str]:
    """Name a stage and all it was trained from, the oldest last."""
    names: list[str] = []
    current: str | None = stage
    while current is not None and current not in names:
        names.append(current)
        found = run.stage(current)
        current = found.start if found else None
    return names


def _knows_tokens(run: Run, name: str) -> bool:
    stage = run.stage(name)
    return stage is not None and bool(stage.tokens) and bool(stage.steps)


def _extent(run: Run, name: str, *, by_tokens: bool) -> float:
    stage = run.stage(name)
    if by_tokens and stage and stage.tokens:
        return stage.tokens
    logged = run.losses.get(name, ())
    return max(stage.steps or 0 if stage else 0, logged[-1].step if logged else 0)


def _curve(run: Run, name: str, *, by_tokens: bool) -> tuple[Point, ...]:
    stage = run.stage(name)
    before = sum(_extent(run, ancestor, by_tokens=by_tokens) for ancestor in _lineage(run, name)[1:])
    rate = stage.tokens / stage.steps if by_tokens and stage and stage.tokens and stage.steps else 1.0
    return tuple(Point(before + item.step * rate, item.loss) for item in _thin(run.losses[name]))


def _thin(points: Sequence[LossPoint]) -> list[LossPoint]:
    """Keep the least and the greatest of each bucket, so that spikes stay visible."""
    finite = [point for point in points if math.isfinite(point.loss)]
    if len(finite) <= _MOST_POINTS:
        return finite
    size = math.ceil(2 * len(finite) / _MOST_POINTS)
    kept: list[LossPoint] = []
    for first in range(0, len(finite), size):
        bucket = sorted(finite[first : first + size], key=lambda point: point.loss)
        kept += sorted({bucket[0], bucket[-1]}, key=lambda point: point.step)
    return kept
