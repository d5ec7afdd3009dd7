"""Draw a sweep: each metric against the swept value or the context length, with the spread over seeds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ctxkit_report.figures import OTHERS, LineChart, Point, Series
from ctxkit_report.gallery import Gallery
from ctxkit_report.notation import number, tokens
from ctxkit_report.publish import fill, publish
from ctxkit_report.reading import dicts, mapping

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def write_page(sweep_dir: Path) -> str | None:
    """Write `sweep.html` and return the line that names it; None where nothing can be drawn.

    Across goes the first swept value where there are two or more of it, all numbers above 0; else the context length.
    """
    about = mapping(sweep_dir / "sweep.json", [])
    results = list(dicts(about.get("results")))
    axis = _axis(results)
    if not _drawable(results, axis):
        return None
    gallery = Gallery()
    figures = [gallery.add(chart) for chart in _charts(results, axis)]
    ordered = sorted(results, key=lambda item: (item["task"], item["metric"], item["length"]))
    page = fill(
        "sweep.html.j2",
        name=sweep_dir.name,
        axis=axis or "the context length it was measured at",
        figures=figures,
        **gallery.parts(),
        intervals=sorted({item["interval"] for item in results if item["interval"]}),
        keys=list(results[0]["values"]),
        rows=[_cells(item) for item in ordered],
    )
    publish(sweep_dir / "sweep.html", page)
    return f"figure: {sweep_dir / 'sweep.html'}"


def _axis(results: Sequence[dict[str, Any]]) -> str | None:
    """Return the swept value that goes across, or None for the context length."""
    first = next(iter(results[0]["values"]), None) if results else None
    return first if _drawable(results, first) else None


def _drawable(results: Sequence[dict[str, Any]], axis: str | None) -> bool:
    values = {_x(item, axis) for item in results if _shown(item, axis)}
    return len(values) > 1 and all(value is not None and value > 0 for value in values)


def _shown(item: dict[str, Any], axis: str | None) -> bool:
    """Return whether a result can be drawn: a loss has the one length that its rows have."""
    return axis is not None or item["task"] != "train"


def _x(item: dict[str, Any], axis: str | None) -> Any:
    value = item["values"][axis] if axis else item["length"]
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _charts(results: Sequence[dict[str, Any]], axis: str | None) -> list[LineChart]:
    charts = []
    shown = [item for item in results if _shown(item, axis)]
    for title in dict.fromkeys(f"{item['task']}.{item['metric']}" for item in shown):
        members = [item for item in shown if f"{item['task']}.{item['metric']}" == title]
        label = f"{axis or 'context length in tokens'} (log scale)"
        charts.append(LineChart(title, label, members[0]["metric"], _series(members, axis), "length"))
    return charts


def _series(members: Sequence[dict[str, Any]], axis: str | None) -> tuple[Series, ...]:
    """Return a line for each combination of what does not go across: context length and other swept values."""
    lines: dict[str, list[dict[str, Any]]] = {}
    for item in members:
        others = _said({key: value for key, value in item["values"].items() if key != axis})
        length = [] if item["task"] == "train" or not axis else [f"{tokens(item['length'])} tokens"]
        lines.setdefault(", ".join([*length, *others]) or item["metric"], []).append(item)
    return tuple(
        Series(label, f"other-{place % OTHERS}", tuple(_point(item, axis) for item in items))
        for place, (label, items) in enumerate(lines.items())
    )


def _said(values: dict[str, Any]) -> list[str]:
    return [f"{key.rpartition('.')[2]} {value}" for key, value in values.items()]


def _point(item: dict[str, Any], axis: str | None) -> Point:
    return Point(float(_x(item, axis)), item["mean"], item["low"], item["high"], item["runs"])


def _cells(item: dict[str, Any]) -> list[str]:
    values = [str(value) for value in item["values"].values()]
    metric = f"{item['task']}.{item['metric']}"
    return [*values, metric, tokens(item["length"]), number(item["mean"]), _interval(item), str(item["runs"])]


def _interval(item: dict[str, Any]) -> str:
    return "" if item["low"] is None else f"[{number(item['low'])}, {number(item['high'])}]"
