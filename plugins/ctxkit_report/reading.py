"""Read JSON that anything may have written: what is absent or of the wrong type becomes empty, never an error."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_MOST = 10**18


def mapping(path: Path, problems: list[str]) -> dict[str, Any]:
    """Return the JSON object in a file; empty where there is none, with a line in `problems` where it is broken."""
    found = content(path)
    if not found:
        if path.exists():
            problems.append(f"{short(path)}: empty or unreadable")
        return {}
    try:
        data = json.loads(found)
    except (ValueError, RecursionError) as error:
        problems.append(f"{short(path)}: not JSON ({error})")
        return {}
    if isinstance(data, dict):
        return data
    problems.append(f"{short(path)}: not a JSON object")
    return {}


def content(path: Path) -> str:
    """Return the text of a file, empty where there is none."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:  # absent, or a folder of that name
        return ""


def short(path: Path) -> str:
    """Name a file as seen from the run directory."""
    return "/".join(path.parts[-3:]) if path.parent.parent.name in {"evals", "data"} else path.name


def dicts(value: object) -> Iterator[dict[str, Any]]:
    """Yield the objects of a list."""
    return (item for item in value if isinstance(item, dict)) if isinstance(value, list) else iter(())


def text(value: object) -> str:
    """Return a string, empty where it is none."""
    return value if isinstance(value, str) else ""


def real(value: object) -> float | None:
    """Return a number, finite or not, or None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return float(value)
    except OverflowError:  # JSON knows integers of any length
        return math.inf if value > 0 else -math.inf


def whole(value: object) -> int | None:
    """Return a finite number as a whole one, or None."""
    number = real(value)
    return int(value) if number is not None and math.isfinite(number) else None  # type: ignore[call-overload]


def count(value: object) -> int | None:
    """Return a number of things, from 0 to more than any disk holds, or None."""
    number = whole(value)
    return number if number is not None and 0 <= number <= _MOST else None


def counts(value: object) -> dict[str, int]:
    """Return the counts by name of an object; what is not a count is left out."""
    items = value.items() if isinstance(value, dict) else ()
    return {str(name): number for name, found in items if (number := count(found)) is not None}
