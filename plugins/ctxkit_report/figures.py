"""What a figure shows, in plain values: lines with intervals, cells of a heatmap, bars; `plots` draws them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from ctxkit.spec import Measurement

OTHERS = 4
"""Colours for what plays no part in the comparison, after which they repeat."""


@dataclass(frozen=True)
class Point:
    """One measured value, with its interval and the count of samples where there are."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None
    count: int | None = None


@dataclass(frozen=True)
class Series:
    """One line; `style` names its colour in the style sheet."""

    label: str
    style: str
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Marker:
    """A vertical line at a length worth knowing."""

    x: float
    label: str


@dataclass(frozen=True)
class LineChart:
    """Values against a length in tokens on a log axis, or against steps or tokens trained on a linear one."""

    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    axis: Literal["length", "linear"] = "linear"
    markers: tuple[Marker, ...] = ()
    about: str = ""
    percent: bool = False
    """Whether values are shares from 0 to 1, written in percent."""
    ratios: bool = False
    """Whether a log axis may show values over steps, where they differ a lot."""


@dataclass(frozen=True)
class HeatChart:
    """Accuracy by context length and depth; what has no depth makes a row of its own."""

    title: str
    cells: tuple[Measurement, ...]
    windows: tuple[Marker, ...] = ()
    about: str = ""


@dataclass(frozen=True)
class Bars:
    """One colour of the bars: a value for each category."""

    label: str
    style: str
    values: tuple[float, ...]


@dataclass(frozen=True)
class BarChart:
    """Bars, side by side, or lying and stacked."""

    title: str
    categories: tuple[str, ...]
    bars: tuple[Bars, ...]
    x_label: str
    y_label: str
    stacked: bool = False
    about: str = ""
    ticks: tuple[str, ...] = ()
    """What stands below the categories, where they are too long for it."""


Chart: TypeAlias = LineChart | HeatChart | BarChart
