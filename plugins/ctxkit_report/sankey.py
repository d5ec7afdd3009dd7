"""Draw where the tokens of a source go as inline SVG: bands from left to right, or stacked bars on a narrow screen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ctxkit_report.flow import Part, added, in_examples, left_out, merged, outcome
from ctxkit_report.notation import SPACE, percent, rough
from ctxkit_report.svg import add, document, pixels, render, shorten
from ctxkit_report.visible import label

if TYPE_CHECKING:
    from collections.abc import Sequence
    from xml.etree.ElementTree import Element

    from ctxkit_report.prepared import Source

_HEIGHT = 170.0
"""Pixels of the tallest column."""
_NODE = 10.0
_SLOT, _GAP = 20.0, 7.0
"""Pixels that a label needs, and between two nodes."""
_LEAST = 1.5
"""Pixels of the thinnest band."""
_COLUMNS = (0.0, 270.0, 560.0, 760.0)
"""Where read, kept, examples and outcome stand, of 928 pixels."""
_MOST_PARTS = 8
_ROW = 22.0
"""Pixels of a line of the narrow picture."""


@dataclass(frozen=True)
class _Node:
    """A part and where it stands."""

    part: Part
    x: float
    top: float
    height: float

    @property
    def middle(self) -> float:
        return self.top + self.height / 2


def token_flow(source: Source, width: int = 928) -> str:
    """Draw read -> kept or left out -> in examples -> trained or masked; the height of a band is its tokens.

    Returns an empty string where nothing was read or the ledger is not known.
    """
    trunk = _trunk(source)
    if trunk is None:
        return ""
    read, kept, whole = trunk
    lost, extra = merged(left_out(source), _MOST_PARTS), added(source)
    scale = _HEIGHT / max(read.tokens, whole.tokens, kept.tokens + sum(part.tokens for part in (*lost, *extra)))
    first = _column([read], 0, scale)
    middle = _column([kept, *extra, *lost], 1, scale)
    third = _column([whole], 2, scale)
    last = _column(outcome(source), 3, scale)
    bottom = max(node.top + max(node.height, _SLOT) for node in (*first, *middle, *third, *last))
    root = document(width, bottom + 6, spoken(source))
    joined = 1 + len(extra)
    _spread(root, first[0], [middle[0], *middle[joined:]])
    _gather(root, middle[:joined], third[0])
    _spread(root, third[0], last)
    for node in (*first, *middle, *third, *last):
        _draw(root, node, read.tokens)
    return render(root)


def token_bars(source: Source, width: int = 350) -> str:
    """Draw the same as three stacked bars, each with a line for every part."""
    trunk = _trunk(source)
    if trunk is None:
        return ""
    _, kept, _ = trunk
    bars = (
        ("read", (kept, *merged(left_out(source), _MOST_PARTS))),
        ("in chunks", (kept, *added(source))),
        ("in chunks", outcome(source)),
    )
    shown = [(name, parts) for name, parts in bars if any(part.tokens for part in parts)]
    root = document(width, sum(56 + _ROW * len(parts) for _, parts in shown), spoken(source))
    y = 0.0
    for name, parts in shown:
        y = _bar(root, y, name, parts, width)
    return render(root)


def spoken(source: Source) -> str:
    """Say the flow in a sentence, for a screen reader."""
    total = source.read or 0
    parts = (*left_out(source), Part("kept", source.kept or 0, ""), *added(source), *outcome(source))
    said = ", ".join(f"{part.name} {percent(part.tokens, total)}" for part in parts)
    return f"Of {total:,} tokens read from {label(source.label)}: {said}"


def _trunk(source: Source) -> tuple[Part, Part, Part] | None:
    """Return what was read, what was kept of it and what the chunks hold, or None where there is nothing to draw."""
    held = in_examples(source)
    if not source.read or source.kept is None or held is None:
        return None
    return Part("read", source.read, "read"), Part("kept", source.kept, "kept"), Part("in chunks", held, "kept")


def _column(parts: Sequence[Part], place: int, scale: float) -> list[_Node]:
    nodes, top = [], 3.0
    for part in parts:
        height = max(part.tokens * scale, _LEAST)
        slot = max(height, _SLOT)
        nodes.append(_Node(part, _COLUMNS[place], top + (slot - height) / 2, height))
        top += slot + _GAP
    return nodes


def _spread(root: Element, start: _Node, ends: Sequence[_Node]) -> None:
    """Draw bands from one node to several, side by side where they leave it."""
    top = start.top
    for end in ends:
        share = start.height * end.part.tokens / max(start.part.tokens, 1)
        _band(root, (start.x + _NODE, top, share), (end.x, end.top, end.height), end.part.style)
        top += share


def _gather(root: Element, starts: Sequence[_Node], end: _Node) -> None:
    """Draw bands from several nodes to one, side by side where they enter it."""
    top = end.top
    for start in starts:
        share = end.height * start.part.tokens / max(end.part.tokens, 1)
        _band(root, (start.x + _NODE, start.top, start.height), (end.x, top, share), start.part.style)
        top += share


def _band(root: Element, start: tuple[float, float, float], end: tuple[float, float, float], style: str) -> None:
    """Draw a band between two upright edges, each x, top and height in pixels."""
    (left, top, height), (right, below, size) = start, end
    half = (left + right) / 2
    curve = (
        f"M{_at(left, top)}C{_at(half, top)} {_at(half, below)} {_at(right, below)}"
        f"V{pixels(below + size)}C{_at(half, below + size)} {_at(half, top + height)} {_at(left, top + height)}Z"
    )
    add(root, "path", d=curve, class_=f"flow {style} band")


def _at(x: float, y: float) -> str:
    return f"{pixels(x)},{pixels(y)}"


def _draw(root: Element, node: _Node, total: int) -> None:
    group = add(root, "g", class_=f"flow {node.part.style}")
    add(group, "title", f"{node.part.name}: {node.part.tokens:,} tokens, {percent(node.part.tokens, total)} of read")
    add(group, "rect", x=node.x, y=node.top, width=_NODE, height=node.height, rx=1.5, class_="node")
    line = add(group, "text", x=node.x + _NODE + 7, y=node.middle + 4, class_="legend over")
    add(line, "tspan", f"{_brief(node.part, 56)}{SPACE * 2}", class_="name")
    share = "" if node.part.style == "read" else f"{SPACE * 2}{percent(node.part.tokens, total)}"
    add(line, "tspan", f"{rough(node.part.tokens)}{share}", class_="figure")


def _brief(part: Part, limit: int) -> str:
    """Return a name without its explanation, which a reason for dropping keeps."""
    return shorten(part.name if part.style == "dropped" else part.name.partition(":")[0], limit)


def _bar(root: Element, y: float, name: str, parts: Sequence[Part], width: int) -> float:
    """Draw a bar and its lines, and return where the next one begins."""
    total = sum(part.tokens for part in parts)
    add(root, "text", f"{rough(total)} tokens {name}", x=0, y=y + 14, class_="legend strong")
    x = 0.0
    for part in parts:
        size = width * part.tokens / total
        group = add(root, "g", class_=f"flow {part.style}")
        add(group, "rect", x=x, y=y + 22, width=max(size - 1, 0.5), height=14, class_="node")
        x += size
    line = y + 38
    for part in parts:
        line += _ROW
        group = add(root, "g", class_=f"flow {part.style}")
        add(group, "rect", x=0, y=line - 15, width=10, height=10, rx=2, class_="node")
        add(group, "text", _brief(part, 30), x=17, y=line - 6, class_="legend")
        figure = f"{rough(part.tokens)}{SPACE * 2}{percent(part.tokens, total)}"
        add(group, "text", figure, x=width, y=line - 6, text_anchor="end", class_="legend figure")
    return line + 18
