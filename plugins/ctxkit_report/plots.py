"""Draw charts by plotly: each becomes a figure of plotly.js, words for who cannot see it, and a table of its values.

Colours are names of the style sheet, such as `var(--extended)`: the script of the page puts in the ones of the theme.
"""

from __future__ import annotations

import html
import json
import math
from dataclasses import dataclass
from functools import singledispatch
from typing import TYPE_CHECKING, Any

from ctxkit_report.figures import BarChart, HeatChart, LineChart
from ctxkit_report.notation import NONE, SPACE, compact, estimate, number, tokens
from ctxkit_report.svg import clean, shorten

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ctxkit.spec import Measurement
    from ctxkit_report.figures import Bars, Chart, Marker, Point, Series

_WIDE = 12.0
"""Ratio of greatest to least value from which on a vertical axis is logarithmic."""
_DODGE = 0.015
"""Of a length: how far the interval bars of two series at one length stand apart."""
_LABEL_LIMIT = 32
_MOST_TICKS = 9
_MOST_ROWS = 40
"""Rows of the table for each line, above which it is thinned."""
_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "triangle-down")
_DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
_HEAT_LEVELS = 10
_LIGHT, _DARK = 5.5, 7.5
"""Levels from which on the ink of a cell is another."""


@dataclass(frozen=True)
class Figure:
    """A figure as a page holds it."""

    title: str
    about: str
    spoken: str
    """What a screen reader says of it."""
    spec: dict[str, Any]
    """`data` and `layout` of plotly.js."""
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    height: int
    """Pixels."""


@singledispatch
def draw(chart: Chart) -> Figure:
    """Return the figure of a chart."""
    raise TypeError(type(chart).__name__)


@draw.register
def _(chart: LineChart) -> Figure:
    log = _spread(chart)
    drawn = [_line(chart, series, place) for place, series in enumerate(chart.series)]
    layout = {
        "xaxis": {"title": {"text": safe(chart.x_label)}, **_across(chart)},
        "yaxis": {"title": {"text": safe(chart.y_label)}, **_upward(chart, log=log)},
        **_windows(chart),
    }
    head = ("Line", chart.x_label, chart.y_label, f"95{SPACE}% interval", "n")
    rows = tuple(row for series in chart.series for row in _line_rows(chart, series))
    kept = [place for place in range(len(head)) if any(row[place] != NONE for row in rows)]
    return Figure(
        title=chart.title,
        about=chart.about,
        spoken=_spoken_lines(chart),
        spec=_spec(drawn, layout),
        head=tuple(head[place] for place in kept),
        rows=tuple(tuple(row[place] for place in kept) for row in rows),
        height=340,
    )


@draw.register
def _(chart: HeatChart) -> Figure:
    lengths = sorted({item.length for item in chart.cells})
    depths: list[float | None] = [*sorted({item.depth for item in chart.cells if item.depth is not None})]
    depths += [None] if any(item.depth is None for item in chart.cells) else []
    found = {(item.length, item.depth): item for item in chart.cells}
    grid = [[found.get((length, depth)) for length in lengths] for depth in depths]
    down = {"title": {"text": "depth (%)"}, "autorange": "reversed"}
    layout = {
        "xaxis": {"type": "category", "title": {"text": "context length (tokens)"}, "showgrid": False},
        "yaxis": {"type": "category", "showgrid": False, **down},
        "annotations": [
            _cell(item, column, row) for row, items in enumerate(grid) for column, item in enumerate(items)
        ],
        **_borders(chart.windows, lengths),
    }
    trace = _heat([tokens(length) for length in lengths], [_depth(depth) for depth in depths], grid)
    head = ("Length (tokens)", "Depth (%)", "Accuracy", f"95{SPACE}% interval", "n")
    rows = tuple(_heat_row(item) for row in grid for item in row if item)
    spec, height = _spec([trace], layout), 110 + 32 * len(depths)
    return Figure(chart.title, chart.about, _spoken_heat(chart), spec, head, rows, height)


@draw.register
def _(chart: BarChart) -> Figure:
    names = [safe(shorten(name, _LABEL_LIMIT)) for name in chart.categories]
    along, upward = ("y", "x") if chart.stacked else ("x", "y")
    drawn = [_bars(chart, bars, names) for bars in chart.bars]
    labels = {"tickvals": names, "ticktext": list(chart.ticks)} if chart.ticks else {}
    order = {"autorange": "reversed"} if chart.stacked else {}
    layout = {
        "barmode": "stack" if chart.stacked else "group",
        f"{along}axis": {"type": "category", "title": {"text": safe(chart.x_label)}, "showgrid": False}
        | labels
        | order,
        f"{upward}axis": {"title": {"text": safe(chart.y_label)}, "rangemode": "tozero"},
    }
    head = (chart.x_label.capitalize(), *(bars.label for bars in chart.bars))
    columns = [chart.categories, *([number(_whole(value)) for value in bars.values] for bars in chart.bars)]
    rows = tuple(tuple(row) for row in zip(*columns, strict=True))
    totals = ", ".join(f"{bars.label} {number(_whole(sum(bars.values)))}" for bars in chart.bars)
    height = 130 + 34 * len(names) if chart.stacked else 300
    return Figure(chart.title, chart.about, f"{chart.title}: {totals}", _spec(drawn, layout), head, rows, height)


def safe(text: str) -> str:
    """Return text that plotly shows as it is: it takes tags and entities in labels for markup."""
    return html.escape(clean(text), quote=False)


def _spec(data: Sequence[dict[str, Any]], layout: dict[str, Any]) -> dict[str, Any]:
    """Have plotly check the names and values, and return them as plain JSON: what is not finite is null."""
    from plotly.graph_objects import Figure as Drawing

    figure = Drawing(data=list(data), layout={**layout, "template": None})
    found: dict[str, Any] = json.loads(figure.to_json())
    return {"data": found["data"], "layout": {key: value for key, value in found["layout"].items() if value}}


def _line(chart: LineChart, series: Series, place: int) -> dict[str, Any]:
    colour = f"var(--{series.style})"
    at_lengths = chart.axis == "length"
    shift = 1 + _DODGE * (place - (len(chart.series) - 1) / 2) if at_lengths else 1.0
    marks = at_lengths or len(series.points) == 1
    trace: dict[str, Any] = {
        "type": "scatter",
        "mode": "lines+markers" if marks else "lines",
        "name": safe(shorten(series.label, _LABEL_LIMIT)),
        "x": [point.x * shift for point in series.points],
        "y": [point.y for point in series.points],
        "line": {"color": colour, "width": 2, "dash": "solid" if at_lengths else _DASHES[place % len(_DASHES)]},
        "marker": {"symbol": _SYMBOLS[place % len(_SYMBOLS)], "size": 8, "color": colour},
        "hovertext": [safe(f"{series.label}, {_point_said(chart, point)}") for point in series.points],
        "hoverinfo": "text",
    }
    if any(point.low is not None for point in series.points):
        trace["error_y"] = _whiskers(series.points, colour)
    return trace


def _whiskers(points: Sequence[Point], colour: str) -> dict[str, Any]:
    """Return the intervals as distances from the values; none where a bound is not finite."""
    above = [_distance(point.high, point.y) for point in points]
    below = [_distance(point.y, point.low) for point in points]
    return {"type": "data", "symmetric": False, "array": above, "arrayminus": below, "color": colour,
            "thickness": 1.25, "width": 4}  # fmt: skip


def _distance(high: float | None, low: float | None) -> float:
    span = high - low if high is not None and low is not None else 0.0
    return max(span, 0.0) if math.isfinite(span) else 0.0


def _across(chart: LineChart) -> dict[str, Any]:
    if chart.axis == "linear":
        return {"rangemode": "tozero"}
    ticks = sorted({point.x for series in chart.series for point in series.points})
    thinned = ticks[:: -(-len(ticks) // _MOST_TICKS) or 1]
    room = (math.log10(ticks[0] / 1.19), math.log10(ticks[-1] * 1.19)) if ticks else (0, 1)
    return {
        "type": "log",
        "range": room,
        "tickvals": thinned,
        "ticktext": [tokens(round(tick)) if tick == round(tick) else compact(tick) for tick in thinned],
        "tickangle": 0,
    }


def _upward(chart: LineChart, *, log: bool) -> dict[str, Any]:
    if chart.percent:
        return {"tickformat": ".0%", "range": [-0.02, 1.04]}
    if log:
        return {"type": "log", "dtick": "D2"}
    return {} if chart.axis == "length" or chart.ratios else {"rangemode": "tozero"}


def _spread(chart: LineChart) -> bool:
    """Return whether values differ so much that a log axis shows them better; a rate that falls to 0 is none."""
    if chart.axis == "linear" and not chart.ratios:
        return False
    values = [point.y for series in chart.series for point in series.points if math.isfinite(point.y)]
    return bool(values) and not chart.percent and min(values) > 0 and max(values) / min(values) > _WIDE


def _windows(chart: LineChart) -> dict[str, Any]:
    """Return dashed lines at the windows; plotly wants logarithms for an annotation, but not for a shape."""
    line = {"color": "var(--soft)", "width": 1, "dash": "dot"}
    first = min((point.x for series in chart.series for point in series.points), default=0.0)
    shapes = [
        {"type": "line", "x0": each.x, "x1": each.x, "y0": 0, "y1": 1, "yref": "paper", "line": line}
        for each in chart.markers
    ]
    labels = [
        {
            "x": math.log10(each.x) if chart.axis == "length" else each.x,
            "y": 1,
            "yref": "paper",
            "yanchor": "top",
            "xanchor": "left" if each.x <= first else "right",
            "text": safe(each.label),
            "showarrow": False,
            "font": {"color": "var(--soft)", "size": 11},
        }
        for each in chart.markers
    ]
    return {"shapes": shapes, "annotations": labels}


def _borders(windows: Sequence[Marker], lengths: Sequence[int]) -> dict[str, Any]:
    """Return dashed lines behind the columns that end at a window; categories count from 0."""
    line = {"color": "var(--ink)", "width": 1.5, "dash": "dot"}
    places = [sum(length <= each.x for length in lengths) - 0.5 for each in windows]
    inside = [place for place in places if 0 < place < len(lengths) - 1]
    return {
        "shapes": [
            {"type": "line", "x0": place, "x1": place, "y0": 0, "y1": 1, "yref": "paper", "line": line}
            for place in inside
        ]
    }


def _line_rows(chart: LineChart, series: Series) -> list[tuple[str, ...]]:
    every = -(-len(series.points) // _MOST_ROWS) or 1
    return [
        (series.label, _x_said(point.x), _y_said(chart, point.y), _interval(chart, point), number(point.count))
        for point in series.points[::-1][::every][::-1]  # the last one always
    ]


def _x_said(x: float) -> str:
    return f"{x:,.0f}" if x == round(x) else number(x)


def _y_said(chart: LineChart, y: float) -> str:
    return f"{100 * y:.3g}{SPACE}%" if chart.percent else number(float(y))


def _interval(chart: LineChart, point: Point) -> str:
    if point.low is None or point.high is None:
        return NONE
    return f"[{_y_said(chart, point.low)},{SPACE}{_y_said(chart, point.high)}]"


def _point_said(chart: LineChart, point: Point) -> str:
    """Return what a tooltip says."""
    unit = " tokens" if chart.axis == "length" and "token" in chart.x_label else ""
    said = f"{_x_said(point.x)}{unit}: {_y_said(chart, point.y)}"
    interval = _interval(chart, point)
    said += f"{SPACE}{interval}" if interval != NONE else ""
    return said + (f", n{SPACE}={SPACE}{point.count:,}" if point.count is not None else "")


def _spoken_lines(chart: LineChart) -> str:
    last = [f"{series.label} ends at {_y_said(chart, series.points[-1].y)}" for series in chart.series if series.points]
    return clean("; ".join([f"{chart.title}, {chart.y_label} against {chart.x_label}", *last]))


def _depth(depth: float | None) -> str:
    return "all" if depth is None else f"{100 * depth:.3g}"


def _said(item: Measurement) -> str:
    where = "all depths" if item.depth is None else f"depth {_depth(item.depth)}{SPACE}%"
    return f"{tokens(item.length)} tokens, {where}: {estimate(item)}, n{SPACE}={SPACE}{item.count}"


def _heat(across: list[str], down: list[str], grid: Sequence[Sequence[Measurement | None]]) -> dict[str, Any]:
    return {
        "type": "heatmap",
        "x": across,
        "y": down,
        "z": [[item.value if item else None for item in row] for row in grid],
        "zmin": 0,
        "zmax": 1,
        "xgap": 2,
        "ygap": 2,
        "showscale": False,
        "colorscale": [[level / _HEAT_LEVELS, f"var(--heat-{level})"] for level in range(_HEAT_LEVELS + 1)],
        "hovertext": [[_said(item) if item else "not measured" for item in row] for row in grid],
        "hoverinfo": "text",
    }


def _bars(chart: BarChart, bars: Bars, names: list[str]) -> dict[str, Any]:
    values = list(bars.values)
    return {
        "type": "bar",
        "name": safe(bars.label),
        "x": values if chart.stacked else names,
        "y": names if chart.stacked else values,
        "orientation": "h" if chart.stacked else "v",
        "marker": {"color": f"var(--{bars.style})"},
        "hovertext": [_bar_said(chart, bars.label, *each) for each in zip(names, values, strict=True)],
        "hoverinfo": "text",
    }


def _cell(item: Measurement | None, across: int, down: int) -> dict[str, Any]:
    """Return the text of a cell, counted from 0, in an ink that can be read on its colour."""
    known = item is not None and math.isfinite(item.value)
    level = _HEAT_LEVELS * min(max(item.value, 0), 1) if item and known else 0
    ink = "low" if level < _LIGHT else "mid" if level < _DARK else "high"
    text = estimate(item).value.removesuffix(f"{SPACE}%") if item else NONE
    return {"x": across, "y": down, "text": text, "showarrow": False, "font": {"color": f"var(--heat-ink-{ink})"}}


def _heat_row(item: Measurement) -> tuple[str, ...]:
    written = estimate(item)
    return f"{item.length:,}", _depth(item.depth), written.value, written.interval, f"{item.count:,}"


def _spoken_heat(chart: HeatChart) -> str:
    pooled = sorted((item.length, item) for item in chart.cells if item.depth is None)
    said = [f"{estimate(item).value} at {length} tokens" for length, item in pooled]
    return clean(f"{chart.title}: {', '.join(said)}" if said else chart.title)


def _bar_said(chart: BarChart, label: str, name: str, value: float) -> str:
    return f"{name}, {safe(label)}: {number(_whole(value))} {safe(chart.y_label)}"


def _whole(value: float) -> float:
    return int(value) if float(value).is_integer() else value
