"""Draw accuracy by context length and depth as inline SVG."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ctxkit_report.notation import NONE, SPACE, estimate, tokens
from ctxkit_report.svg import add, document, render

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from xml.etree.ElementTree import Element

    from ctxkit.spec import Measurement

_LEFT, _TOP, _BOTTOM = 42.0, 22.0, 42.0
_CELL_HEIGHT = 30.0
_GAP = 8.0
"""Pixels between the depths and the row that pools them."""
_LEVELS = 10


@dataclass(frozen=True)
class _Grid:
    """Where the cells stand."""

    lengths: tuple[int, ...]
    depths: tuple[float | None, ...]
    """From the front of the context to its end; None is the row over all depths."""
    cell: float
    """The width of a cell in pixels."""

    @property
    def right(self) -> float:
        return _LEFT + self.cell * len(self.lengths)

    @property
    def bottom(self) -> float:
        return self.top(len(self.depths) - 1) + _CELL_HEIGHT

    def top(self, row: int) -> float:
        gap = _GAP if row and self.depths[row] is None else 0.0
        return _TOP + row * _CELL_HEIGHT + gap


def heatmap(title: str, measurements: Sequence[Measurement], windows: Mapping[int, str], width: int = 300) -> str:
    """Draw one cell per length and depth with its accuracy in percent.

    Args:
        title: What a screen reader says first.
        measurements: Accuracies from 0 to 1; those without a depth make a row of their own.
        windows: Length in tokens to what is said of it; a dashed line stands behind its column.
        width: In pixels; grows where the columns would become too narrow to read.
    """
    cells = {(item.length, item.depth): item for item in measurements}
    grid = _grid(measurements, width)
    root = document(max(grid.right + 2, width), grid.bottom + _BOTTOM, _spoken(title, cells))
    for row, depth in enumerate(grid.depths):
        label = "all" if depth is None else f"{100 * depth:.3g}"
        middle = grid.top(row) + _CELL_HEIGHT / 2 + 4
        add(root, "text", label, x=_LEFT - 8, y=middle, text_anchor="end", class_="tick")
        for column, length in enumerate(grid.lengths):
            _cell(root, _LEFT + column * grid.cell, grid.top(row), grid.cell, cells.get((length, depth)))
    _axes(root, grid, windows)
    return render(root)


def heat_scale(width: int = 200) -> str:
    """Draw the legend of the colours."""
    root = document(width, 34, "Colour scale of accuracy from 0 to 100 percent")
    step = width / (_LEVELS + 1)
    for level in range(_LEVELS + 1):
        add(root, "rect", x=level * step, y=2, width=step + 0.5, height=10, class_=f"heat heat-{level}")
    for share, anchor in ((0.0, "start"), (0.5, "middle"), (1.0, "end")):
        label = f"{share:.0%}".replace("%", f"{SPACE}%")
        add(root, "text", label, x=share * width, y=28, text_anchor=anchor, class_="tick")
    return render(root)


def _grid(measurements: Sequence[Measurement], width: int) -> _Grid:
    lengths = tuple(sorted({item.length for item in measurements}))
    depths = sorted({item.depth for item in measurements if item.depth is not None})
    pooled = [None] if any(item.depth is None for item in measurements) else []
    cell = max((width - _LEFT - 2) / max(len(lengths), 1), 34.0)  # 34 pixels hold "100"
    return _Grid(lengths, (*depths, *pooled), cell)


def _cell(root: Element, x: float, y: float, width: float, item: Measurement | None) -> None:
    group = add(root, "g")
    known = item is not None and math.isfinite(item.value)
    level = min(max(round(item.value * _LEVELS), 0), _LEVELS) if item and known else "none"
    height = _CELL_HEIGHT - 2
    add(group, "rect", x=x + 1, y=y + 1, width=width - 2, height=height, rx=3, class_=f"heat heat-{level}")
    middle, base = x + width / 2, y + _CELL_HEIGHT / 2 + 4.5
    if item is None or not known:
        add(group, "text", NONE, x=middle, y=base, text_anchor="middle", class_="tick")
        return
    written = estimate(item)
    where = "all depths" if item.depth is None else f"depth {100 * item.depth:.3g}{SPACE}%"
    add(group, "title", f"{tokens(item.length)} tokens, {where}: {written}, n{SPACE}={SPACE}{item.count}")
    text = written.value.removesuffix(f"{SPACE}%")
    add(group, "text", text, x=middle, y=base, text_anchor="middle", class_=f"cell ink-{level}")


def _axes(root: Element, grid: _Grid, windows: Mapping[int, str]) -> None:
    for column, length in enumerate(grid.lengths):
        x = _LEFT + (column + 0.5) * grid.cell
        weight = "tick strong" if length in windows else "tick"
        add(root, "text", tokens(length), x=x, y=grid.bottom + 16, text_anchor="middle", class_=weight)
    middle = (_LEFT + grid.right) / 2
    add(root, "text", "context length (tokens)", x=middle, y=grid.bottom + 35, text_anchor="middle", class_="label")
    add(root, "text", "depth (%), 0 is the front", x=2, y=_TOP - 8, class_="label")
    for window, label in windows.items():
        inside = sum(length <= window for length in grid.lengths)
        if 0 < inside < len(grid.lengths):
            x = _LEFT + inside * grid.cell
            line = add(root, "line", x1=x, x2=x, y1=_TOP - 4, y2=grid.bottom + 4, class_="window")
            add(line, "title", f"{label}: {window} tokens")


def _spoken(title: str, cells: Mapping[tuple[int, float | None], Measurement]) -> str:
    pooled = sorted((length, item) for (length, depth), item in cells.items() if depth is None)
    said = [f"{estimate(item).value} at {length} tokens" for length, item in pooled]
    return f"{title}: {', '.join(said)}" if said else title
