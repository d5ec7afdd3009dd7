"""Turn a run into the charts of its report: perplexity by length and position, passkey heatmaps, training curves."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ctxkit_report.comparison import PASSKEY, TAIL, WHOLE, Comparison, Metric
from ctxkit_report.figures import OTHERS, HeatChart, LineChart, Marker, Point, Series

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ctxkit.spec import Measurement
    from ctxkit_report.collect import Logged, Run

_MOST_POINTS = 600
"""Points of one curve above which it is thinned: the picture is no wider."""
_LENGTH = "context length (tokens, log scale)"
_GIBI = 2**30


@dataclass(frozen=True)
class Curve:
    """What is drawn of the training: a name in the metrics, and how it is shown."""

    name: str
    title: str
    unit: str
    about: str = ""
    scale: float = 1.0
    """What a value is divided by."""
    ratios: bool = False
    """Whether a log axis may show it."""


LOSS = Curve(
    "loss",
    "Training loss by stage",
    "loss",
    "Each stage begins where the stage it starts from ended. "
    "Stages on different data or lengths are not comparable by loss alone.",
    ratios=True,
)
CURVES = (
    Curve("eval_loss", "Validation loss", "loss", "On documents that were set aside and not trained on.", ratios=True),
    Curve("learning_rate", "Learning rate", "learning rate"),
    Curve("grad_norm", "Gradient norm", "norm", "Before clipping.", ratios=True),
    Curve("tokens_per_second", "Throughput", "tokens per second", "Between two logs; all processes together."),
    Curve(
        "peak_memory_bytes",
        "Memory",
        "GiB",
        "The most so far, of the first process: of its accelerator, or resident on a CPU.",
        _GIBI,
    ),
)
"""All but the loss."""


def perplexity_charts(comparison: Comparison) -> tuple[LineChart, ...]:
    """Chart the perplexity of the whole window and of its last quarter, whichever was measured."""
    charts = (_perplexity(comparison, metric) for metric in (WHOLE, TAIL))
    return tuple(chart for chart in charts if chart.series)


def position_charts(comparison: Comparison) -> tuple[LineChart, ...]:
    """Chart what was measured by position in the context, a point at the end of each stretch."""
    found: dict[tuple[str, str, int], dict[str, tuple[Point, ...]]] = {}
    for name in _ordered(comparison):
        for task in dict.fromkeys(item.report.task for item in comparison.run.evals if item.stage == name):
            report = comparison.run.report(name, task)
            by_length = _positioned(report.measurements if report else ())
            for (metric, length), points in by_length.items():
                found.setdefault((task, metric, length), {})[name] = points
    return tuple(
        LineChart(
            f"{_spelled(metric)}, {length:,} tokens of context",
            "position in the context, up to (tokens, log scale)",
            _spelled(metric.partition("_by_")[0]).lower(),
            tuple(
                Series(labelled(comparison, name), coloured(comparison, name), points) for name, points in lines.items()
            ),
            "length",
            tuple(each for each in _windows(comparison) if each.x < length),
            about="Lower is better; a model that uses its context gets better towards the end."
            if metric.startswith(("perplexity", "loss"))
            else "",
        )
        for (_, metric, length), lines in sorted(found.items())
    )


def heat_charts(comparison: Comparison, task: str) -> tuple[HeatChart, ...]:
    """Return a heatmap for each compared stage on which a task was measured by depth."""
    before = "" if task == PASSKEY.task else f"{task}, "
    found = [(column, _accuracies(comparison.run, column.stage, task)) for column in comparison.columns]
    return tuple(
        HeatChart(f"{before}{column.title}: {column.stage}", tuple(cells), _windows(comparison))
        for column, cells in found
        if any(item.depth is not None for item in cells)
    )


def curve_chart(comparison: Comparison, curve: Curve) -> LineChart | None:
    """Chart what was logged along the lineage: a stage begins where the stage it starts from ended."""
    run = comparison.run
    logged = run.logged.get(curve.name, {})
    names = [name for name in _ordered(comparison) if logged.get(name)]
    if not names:
        return None
    by_tokens = all(_knows_tokens(run, name) for stage in names for name in _lineage(run, stage))
    series = tuple(
        Series(
            labelled(comparison, name),
            coloured(comparison, name),
            _curve(run, name, logged[name], scale=curve.scale, by_tokens=by_tokens),
        )
        for name in names
    )
    unit = "tokens trained, along the lineage" if by_tokens else "steps, along the lineage"
    thinned = any(len(logged[name]) > _MOST_POINTS for name in names)
    note = " Long curves are thinned to the least and the greatest value of each stretch." if thinned else ""
    return LineChart(curve.title, unit, curve.unit, series, about=(curve.about + note).strip(), ratios=curve.ratios)


def _perplexity(comparison: Comparison, metric: Metric) -> LineChart:
    lines = {name: points(comparison.pooled(metric, name).values()) for name in _ordered(comparison)}
    series = tuple(
        Series(labelled(comparison, name), coloured(comparison, name), line) for name, line in lines.items() if line
    )
    return LineChart(metric.title, _LENGTH, "perplexity", series, "length", _windows(comparison), "Lower is better.")


def points(measured: Iterable[Measurement]) -> tuple[Point, ...]:
    """Return measurements as points over their length."""
    ordered = sorted(measured, key=lambda item: item.length)
    return tuple(Point(item.length, item.value, item.low, item.high, item.count) for item in ordered)


def _positioned(measured: Iterable[Measurement]) -> dict[tuple[str, int], tuple[Point, ...]]:
    """Return what has positions by metric and length, ordered by position."""
    found: dict[tuple[str, int], list[Point]] = {}
    for item in measured:
        if item.positions is not None:
            point = Point(item.positions[1], item.value, item.low, item.high, item.count)
            found.setdefault((item.metric, item.length), []).append(point)
    return {key: tuple(sorted(each, key=lambda point: point.x)) for key, each in found.items()}


def _spelled(metric: str) -> str:
    return metric.replace("_", " ").capitalize()


def _accuracies(run: Run, stage: str, task: str) -> list[Measurement]:
    report = run.report(stage, task)
    return [item for item in report.measurements if item.metric == PASSKEY.name] if report else []


def _windows(comparison: Comparison) -> tuple[Marker, ...]:
    windows = {comparison.original: "original", comparison.window: "extended"}
    return tuple(Marker(length, label) for length, label in windows.items() if length)


def _ordered(comparison: Comparison) -> list[str]:
    """Name every stage in the order of the run, the result last, so that it is drawn on top."""
    run = comparison.run
    named = [stage.name for stage in run.stages] + list(run.losses) + [item.stage for item in run.evals]
    return sorted(dict.fromkeys(named), key=lambda name: name == run.result)


def labelled(comparison: Comparison, stage: str) -> str:
    """Name a stage with the part it plays."""
    role = comparison.role(stage)
    return f"{stage} ({role})" if role and role != stage else stage


def coloured(comparison: Comparison, stage: str) -> str:
    """Return the name of the colour of a stage."""
    style = comparison.style(stage)
    if style:
        return style
    others = [name for name in _ordered(comparison) if comparison.role(name) is None]
    return f"other-{others.index(stage) % OTHERS}"


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


def _curve(run: Run, name: str, logged: Sequence[Logged], *, scale: float, by_tokens: bool) -> tuple[Point, ...]:
    stage = run.stage(name)
    before = sum(_extent(run, ancestor, by_tokens=by_tokens) for ancestor in _lineage(run, name)[1:])
    rate = stage.tokens / stage.steps if by_tokens and stage and stage.tokens and stage.steps else 1.0
    return tuple(Point(before + item.step * rate, item.value / scale) for item in _thin(logged))


def _thin(logged: Sequence[Logged]) -> list[Logged]:
    """Keep the least and the greatest of each bucket, so that spikes stay visible."""
    finite = [item for item in logged if math.isfinite(item.value)]
    if len(finite) <= _MOST_POINTS:
        return finite
    size = math.ceil(2 * len(finite) / _MOST_POINTS)
    kept: list[Logged] = []
    for first in range(0, len(finite), size):
        bucket = sorted(finite[first : first + size], key=lambda item: item.value)
        kept += sorted({bucket[0], bucket[-1]}, key=lambda item: item.step)
    return kept
