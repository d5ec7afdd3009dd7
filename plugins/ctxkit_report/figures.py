"""Draw a line chart as inline SVG; colours come from the style sheet of the page."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from ctxkit_report.heatmap import heat_scale, heatmap
from ctxkit_report.scales import Scale, length_scale, span_scale, value_scale
from ctxkit_report.svg import CHARACTER, add, clean, document, pixels, render, shorten

if TYPE_CHECKING:
    from collections.abc import Sequence
    from xml.etree.ElementTree import Element

__all__ = ["LineChart", "Marker", "Point", "Series", "heat_scale", "heatmap", "line_chart"]

_LEGEND_ROW = 20.0
_LEFT, _RIGHT, _BOTTOM = 46.0, 14.0, 44.0
_DODGE = 5.0
"""Pixels between the interval bars of two series at one length."""
_LABEL_LIMIT = 32


@dataclass(frozen=True)
class Point:
    """One measured value, with its interval where there is one."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None
    note: str = ""
    """The tooltip."""


@dataclass(frozen=True)
class Series:
    """One line; `style` names the class that colours it."""

    label: str
    style: str
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Marker:
    """A vertical dashed line."""

    x: float
    label: str


@dataclass(frozen=True)
class LineChart:
    """What to draw; `axis` says whether x is a context length (log2) or counts up from 0."""

    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    axis: Literal["length", "span"] = "span"
    markers: tuple[Marker, ...] = ()


@dataclass(frozen=True)
class _Frame:
    """The scales, and the edges of the plot in pixels."""

    x: Scale
    y: Scale
    left: float
    right: float
    top: float
    bottom: float


def line_chart(chart: LineChart, width: int = 460, height: int = 320) -> str:
    """Draw the series with legend, axes and markers; values that are not finite are left out."""
    chart = _finite(chart)
    root = document(width, height, _spoken(chart))
    if not chart.series:
        add(root, "text", "Nothing finite to draw yet", x=width / 2, y=height / 2, text_anchor="middle", class_="tick")
        return render(root)
    top = _legend(root, chart, width) + 36
    frame = _frame(chart, width, height, top)
    _axes(root, frame, chart)
    _markers(root, frame, chart.markers)
    for place, series in enumerate(chart.series):
        shift = (place - (len(chart.series) - 1) / 2) * _DODGE if chart.axis == "length" else 0.0
        _line(root, frame, series, shift)
        if chart.axis == "length":
            _intervals(root, frame, series, shift, place)
    return render(root)


def _finite(chart: LineChart) -> LineChart:
    lowest = 1e-9 if chart.axis == "length" else 0.0
    kept = []
    for series in chart.series:
        points = tuple(point for point in series.points if math.isfinite(point.y) and point.x >= lowest)
        if points:
            kept.append(replace(series, points=tuple(sorted(points, key=lambda point: point.x))))
    return replace(chart, series=tuple(kept))


def _spoken(chart: LineChart) -> str:
    last = [f"{series.label} ends at {series.points[-1].y:.3g}" for series in chart.series]
    return "; ".join([f"{chart.title}, {chart.y_label} against {chart.x_label}", *last])


def _frame(chart: LineChart, width: int, height: int, top: float) -> _Frame:
    points = [point for series in chart.series for point in series.points]
    across = [point.x for point in points]
    bounds = [bound for point in points for bound in (point.y, point.low, point.high) if bound is not None]
    left, right, bottom = _LEFT, width - _RIGHT, height - _BOTTOM
    x = length_scale(across, left, right) if chart.axis == "length" else span_scale(across, left, right)
    y = value_scale([bound for bound in bounds if math.isfinite(bound)], bottom, top)
    return _Frame(x, y, left, right, top, bottom)


def _legend(root: Element, chart: LineChart, width: int) -> float:
    """Draw the legend from the top left and return the pixel at which it ends."""
    x, y = 2.0, 14.0
    for place, item in enumerate(chart.series):
        label = shorten(item.label, _LABEL_LIMIT)
        needed = 26 + len(label) * CHARACTER + 22
        if x > _LEFT and x + needed > width:
            x, y = 2.0, y + _LEGEND_ROW
        group = add(root, "g", class_=item.style)
        add(group, "line", x1=x, x2=x + 20, y1=y - 4, y2=y - 4, class_="line")
        if chart.axis == "length":
            _mark(group, x + 10, y - 4, place)
        add(group, "text", label, x=x + 26, y=y, class_="legend")
        x += needed
    return y + 6


def _axes(root: Element, frame: _Frame, chart: LineChart) -> None:
    for tick in frame.y.ticks:
        y = frame.y(tick)
        add(root, "line", x1=frame.left, x2=frame.right, y1=y, y2=y, class_="grid")
        add(root, "text", frame.y.label(tick), x=frame.left - 8, y=y + 4, text_anchor="end", class_="tick")
    add(root, "line", x1=frame.left, x2=frame.right, y1=frame.bottom, y2=frame.bottom, class_="axis")
    for tick in frame.x.ticks:
        x = frame.x(tick)
        add(root, "line", x1=x, x2=x, y1=frame.bottom, y2=frame.bottom + 5, class_="axis")
        add(root, "text", frame.x.label(tick), x=x, y=frame.bottom + 18, text_anchor="middle", class_="tick")
    middle = (frame.left + frame.right) / 2
    add(root, "text", chart.x_label, x=middle, y=frame.bottom + 38, text_anchor="middle", class_="label")
    y_label = f"{chart.y_label} (log scale)" if frame.y.log else chart.y_label
    add(root, "text", y_label, x=2, y=frame.top - 14, class_="label")


def _markers(root: Element, frame: _Frame, markers: Sequence[Marker]) -> None:
    for marker in markers:
        if not frame.x.low <= marker.x <= frame.x.high:
            continue
        x = frame.x(marker.x)
        add(root, "line", x1=x, x2=x, y1=frame.top - 4, y2=frame.bottom, class_="window")
        anchor = "end" if x > (frame.left + frame.right) / 2 else "start"
        shift = -5 if anchor == "end" else 5
        add(root, "text", marker.label, x=x + shift, y=frame.top + 8, text_anchor=anchor, class_="note")


def _line(root: Element, frame: _Frame, series: Series, shift: float) -> None:
    places = " ".join(f"{pixels(frame.x(p.x) + shift)},{pixels(frame.y(p.y))}" for p in series.points)
    group = add(root, "g", class_=series.style)
    line = add(group, "polyline", points=places, class_="line")
    add(line, "title", series.label)
    if len(series.points) == 1:
        point = series.points[0]
        add(group, "circle", cx=frame.x(point.x) + shift, cy=frame.y(point.y), r=3, class_="mark")


def _intervals(root: Element, frame: _Frame, series: Series, shift: float, place: int) -> None:
    group = add(root, "g", class_=series.style)
    for point in series.points:
        x, y = frame.x(point.x) + shift, frame.y(point.y)
        spot = add(group, "g")
        add(spot, "title", clean(point.note) or f"{series.label}: {point.y:.3g}")
        if point.low is not None and point.high is not None and math.isfinite(point.low + point.high):
            low, high = frame.y(point.low), frame.y(point.high)
            add(spot, "path", d=_whisker(x, low, high), class_="whisker")
        _mark(spot, x, y, place)


def _whisker(x: float, low: float, high: float) -> str:
    left, middle, right = pixels(x - 3), pixels(x), pixels(x + 3)
    bottom, top = pixels(low), pixels(high)
    return f"M{left} {bottom}H{right}M{middle} {bottom}V{top}M{left} {top}H{right}"


def _mark(parent: Element, x: float, y: float, place: int) -> None:
    """Draw a shape of its own for each series, so that colour is not the only sign."""
    shapes = (
        ((-4, -4), (4, -4), (4, 4), (-4, 4)),
        ((0, -5.5), (5.5, 0), (0, 5.5), (-5.5, 0)),
        ((0, -5), (5, 4), (-5, 4)),
        ((0, 5), (5, -4), (-5, -4)),
    )
    if place % 5 == 0:
        add(parent, "circle", cx=x, cy=y, r=4, class_="mark")
        return
    corners = " ".join(f"{pixels(x + right)},{pixels(y + down)}" for right, down in shapes[place % 5 - 1])
    add(parent, "polygon", points=corners, class_="mark")
