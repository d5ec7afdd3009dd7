"""Draw how long documents or rows are as inline SVG: for each bin of lengths, the share of them and of their tokens."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ctxkit_report.notation import SPACE, percent, tokens
from ctxkit_report.svg import add, document, render

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from ctxkit_report.lengths import Axis, Histogram

_LEFT, _TOP, _BOTTOM, _RIGHT = 44.0, 22.0, 38.0, 16.0
_LABEL = 36.0
"""Pixels that the label of a length needs."""


def histogram(found: Histogram, axis: Axis, window: int | None, width: int = 440, height: int = 200) -> str:
    """Draw two bars for each bin, with a dashed line at the window."""
    root = document(width, height, _spoken(found, axis))
    bottom, step = height - _BOTTOM, (width - _LEFT - _RIGHT) / max(axis.count, 1)
    high = _grid(root, found, width, bottom)
    for place, column in enumerate(found.columns):
        group = add(root, "g")
        add(group, "title", f"{axis.range(place)} tokens: {_said(found, place)}")
        # A transparent bar over the whole height, so that the tooltip shows wherever one points.
        left = _LEFT + place * step
        add(group, "rect", x=left, y=_TOP, width=step, height=bottom - _TOP, class_="reach")
        shares = (_share(column.count, found.total.count), _share(column.tokens, found.total.tokens))
        for number, (share, style) in enumerate(zip(shares, ("many", "much"), strict=True)):
            size = max((bottom - _TOP) * share / high, 1.0) if share else 0.0
            x = left + step * (0.12 + 0.38 * number)
            add(group, "rect", x=x, y=bottom - size, width=step * 0.38 - 0.5, height=size, class_=style)
    _labels(root, axis, step, bottom)
    _window(root, axis, window, step, bottom)
    return render(root)


def _grid(root: Element, found: Histogram, width: int, bottom: float) -> float:
    """Draw the lines of the shares and return the highest."""
    total = found.total
    shares = [_share(item.count, total.count) for item in found.columns]
    shares += [_share(item.tokens, total.tokens) for item in found.columns]
    ticks = nice_ticks(0, max(shares, default=1.0) or 1.0, 4)
    for tick in ticks:
        y = bottom - (bottom - _TOP) * tick / ticks[-1]
        add(root, "line", x1=_LEFT, x2=width - _RIGHT, y1=y, y2=y, class_="axis" if tick == 0 else "grid")
        add(root, "text", f"{100 * tick:.3g}{SPACE}%", x=_LEFT - 6, y=y + 4, text_anchor="end", class_="tick")
    return ticks[-1]


def nice_ticks(low: float, high: float, count: int) -> tuple[float, ...]:
    """Return about `count` round numbers that enclose the range: steps of 1, 2 or 5 times a power of ten."""
    if high <= low:
        room = abs(low) * 0.1 or 0.5
        # What is never negative, such as an accuracy of 0, has no room below 0.
        low, high = low - (room if low else 0), high + room
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = min((size * power for size in (1, 2, 5, 10)), key=lambda size: abs(math.log(size / rough)))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return tuple(float(f"{index * step:.12g}") for index in range(first, last + 1))


def _labels(root: Element, axis: Axis, step: float, bottom: float) -> None:
    """Write the least length of each bin at its left edge, thinned where they would touch."""
    every = max(math.ceil(_LABEL / step), 1)
    for place in range(0, axis.count + 1, every):
        x = _LEFT + place * step
        add(root, "line", x1=x, x2=x, y1=bottom, y2=bottom + 4, class_="axis")
        add(root, "text", tokens(axis.least(place)), x=x, y=bottom + 17, text_anchor="middle", class_="tick")
    middle = _LEFT + step * axis.count / 2
    add(root, "text", "length (tokens, log scale)", x=middle, y=bottom + 34, text_anchor="middle", class_="label")


def _window(root: Element, axis: Axis, window: int | None, step: float, bottom: float) -> None:
    place = math.log2(window) - axis.first if window else -1.0
    if not 0 <= place <= axis.count:
        return
    x = _LEFT + place * step
    line = add(root, "line", x1=x, x2=x, y1=_TOP - 14, y2=bottom, class_="window")
    add(line, "title", f"the window: {window:,} tokens")
    anchor, shift = ("end", -5) if place > axis.count / 2 else ("start", 5)
    add(root, "text", "window", x=x + shift, y=_TOP - 7, text_anchor=anchor, class_="note")


def _share(part: int, total: int) -> float:
    return part / total if total else 0.0


def _said(found: Histogram, place: int) -> str:
    column, total = found.columns[place], found.total
    many, much = percent(column.count, total.count), percent(column.tokens, total.tokens)
    return f"{column.count:,} {found.unit} ({many}), {column.tokens:,} tokens ({much})"


def _spoken(found: Histogram, axis: Axis) -> str:
    parts = [
        f"{axis.range(place)} tokens: {column.count:,}" for place, column in enumerate(found.columns) if column.count
    ]
    return f"{found.title} by length. {', '.join(parts)}"
