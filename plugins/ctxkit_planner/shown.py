"""Numbers, tables and pieces of a recipe as a terminal of 80 columns shows them."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

WIDTH = 80
LABEL = 28
"""Columns of the names of a table's rows."""
GIB = 1 << 30


def gib(count: float) -> str:
    """Return bytes in GiB: three digits, or nothing where there is nothing."""
    value = count / GIB
    if value == 0:
        return "-"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.1f}" if value >= 0.05 else f"{value:.1g}"


def many(count: float) -> str:
    """Return a number of parameters or tokens for a person: 8.03 B, 13.6 M."""
    for unit, size in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.0f}"


def duration(count: float) -> str:
    """Return a time in seconds in the two units that matter: 3 d 4 h, 12 h 40 min, 25 min, 8 s."""
    if count >= 2 * 86400:
        days, hours = divmod(round(count / 3600), 24)
        return f"{days} d {hours} h"
    if count >= 3600:
        hours, minutes = divmod(round(count / 60), 60)
        return f"{hours} h {minutes:02} min"
    return f"{count / 60:.0f} min" if count >= 120 else f"{count:.0f} s" if count >= 1 else "below 1 s"


def share(part: float) -> str:
    """Return a part as a percentage."""
    return f"{part:.0%}" if part >= 0.01 else "less than 1%"


def seconds(count: float) -> str:
    """Return the time of a step in seconds: three digits, or nothing where there is nothing."""
    if count < 0.0005:
        return "-"
    return f"{count:,.0f} s" if count >= 100 else f"{count:.3g} s"


def paragraph(label: str, text: str, indent: int = 17) -> list[str]:
    """Return a text beside its label, wrapped, its further lines below its first."""
    first = f"{label:{indent}}"
    return textwrap.wrap(text, WIDTH, initial_indent=first, subsequent_indent=" " * indent, break_on_hyphens=False)


def table(head: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]) -> list[str]:
    """Return rows of cells beside their names; columns that do not fit beside one another come below."""
    width = max(12, *(min(len(name), 24) + 2 for name in head))
    beside = max((WIDTH - LABEL) // width, 1)
    lines: list[str] = []
    for first in range(0, len(head), beside):
        part = slice(first, first + beside)
        names = [name[: width - 2] for name in head[part]]
        lines += [] if len(head) == 1 else [" " * LABEL + "".join(f"{name:>{width}}" for name in names)]
        lines += [f"{label:{LABEL}}" + "".join(f"{cell:>{width}}" for cell in cells[part]) for label, cells in rows]
        lines += [""]
    return [line.rstrip() for line in lines[:-1]]


def yaml_lines(values: Mapping[str, Any], indent: int) -> list[str]:
    """Return values as a recipe writes them: a section a line where it fits, else its keys below it."""
    lines = []
    for key, value in values.items():
        line = f"{' ' * indent}{key}: {_flow(value)}"
        if len(line) > WIDTH and isinstance(value, Mapping):
            lines += [f"{' ' * indent}{key}:", *yaml_lines(value, indent + 2)]
        else:
            lines.append(line)
    return lines


def one_line(values: Mapping[str, Any]) -> str:
    """Return values as a recipe writes them, sections beside one another."""
    return "; ".join(f"{key}: {_flow(value)}" for key, value in values.items())


def _flow(value: object) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_flow(child)}" for key, child in value.items()) + "}"
    if isinstance(value, list):
        return f"[{', '.join(_flow(item) for item in value)}]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return "null" if value is None else str(value)
