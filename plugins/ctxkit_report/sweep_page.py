"""Draw a sweep: each metric against the swept value, a line for each context length, with the spread over seeds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ctxkit_report.figures import LineChart, Point, Series, line_chart
from ctxkit_report.notation import number, tokens
from ctxkit_report.publish import fill, publish
from ctxkit_report.reading import dicts, mapping

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_STYLES = 4
"""Colours of the lines, after which they repeat."""


def write_page(sweep_dir: Path) -> str | None:
    """Write `sweep.html` and return the line that names it; None where nothing can be drawn.

    Across goes the first swept value; there must be two or more of it, all numbers above 0.
    """
    about = mapping(sweep_dir / "sweep.json", [])
    results = list(dicts(about.get("results")))
    axis = next(iter(results[0]["values"]), None) if results else None
    if axis is None or not _drawable({_x(item, axis) for item in results}):
        return None
    charts = _charts(results, axis)
    intervals = sorted({item["interval"] for item in results if item["interval"]})
    figures = [(chart.title, line_chart(chart)) for chart in charts]
    rows = [_cells(item) for item in results]
    page = fill(
        "sweep.html.j2", name=sweep_dir.name, axis=axis, figures=figures, intervals=intervals,
        keys=list(results[0]["values"]), rows=rows,
    )  # fmt: skip
    publish(sweep_dir / "sweep.html", page)
    return f"figure: {sweep_dir / 'sweep.html'}"


def _x(item: dict[str, Any], axis: str) -> Any:
    value = item["values"][axis]
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _drawable(values: set[Any]) -> bool:
    return len(values) > 1 and all(value is not None and value > 0 for value in values)


def _charts(results: Sequence[dict[str, Any]], axis: str) -> list[LineChart]:
    charts = []
    for title in dict.fromkeys(f"{item['task']}.{item['metric']}" for item in results):
        members = [item for item in results if f"{item['task']}.{item['metric']}" == title]
        charts.append(LineChart(title, axis, members[0]["metric"], _series(members, axis), "length"))
    return charts


def _series(members: Sequence[dict[str, Any]], axis: str) -> tuple[Series, ...]:
    """Return a line for each context length and each combination of the other swept values; losses have one length."""
    lines: dict[str, list[dict[str, Any]]] = {}
    for item in members:
        others = [f"{key.rpartition('.')[2]} {value}" for key, value in item["values"].items() if key != axis]
        length = [] if item["task"] == "train" else [f"{tokens(item['length'])} tokens"]
        lines.setdefault(", ".join([*length, *others]) or item["metric"], []).append(item)
    return tuple(
        Series(label, f"series other-{place % _STYLES}", tuple(_point(item, axis) for item in items))
        for place, (label, items) in enumerate(lines.items())
    )


def _point(item: dict[str, Any], axis: str) -> Point:
    note = f"{item['values']}: {number(item['mean'])} {_interval(item)}, {item['runs']} runs"
    return Point(float(_x(item, axis)), item["mean"], item["low"], item["high"], note)


def _cells(item: dict[str, Any]) -> list[str]:
    values = [str(value) for value in item["values"].values()]
    metric = f"{item['task']}.{item['metric']}"
    return [*values, metric, tokens(item["length"]), number(item["mean"]), _interval(item), str(item["runs"])]


def _interval(item: dict[str, Any]) -> str:
    return "" if item["low"] is None else f"[{number(item['low'])}, {number(item['high'])}]"
