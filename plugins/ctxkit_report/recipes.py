"""Read a resolved recipe to show it: plain values, stages by their names."""

from __future__ import annotations

from typing import Any

_DEEPEST = 40


def read_recipe(content: str) -> dict[str, Any]:
    """Return the values of a recipe as they are written, all of them text; empty where it is none.

    `stages` becomes a mapping by name, so that the same stage of two recipes has the same path.
    """
    import yaml

    try:
        found = yaml.load(content, Loader=yaml.BaseLoader)  # noqa: S506 - it builds nothing but text, lists and mappings
    except (yaml.YAMLError, RecursionError):
        return {}
    if not isinstance(found, dict):
        return {}
    stages = found.get("stages")
    if isinstance(stages, list):
        found["stages"] = {
            str(stage.get("name") or place): stage for place, stage in enumerate(stages) if isinstance(stage, dict)
        }
    return found


def leaves(value: object, path: str = "", depth: int = 0) -> dict[str, str]:
    """Return every value with its dotted path; list items by their place."""
    if depth > _DEEPEST:
        return {path: "…"}
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if items is None:
        return {path: str(value)}
    found: dict[str, str] = {}
    for key, item in items:
        found |= leaves(item, f"{path}.{key}" if path else str(key), depth + 1)
    return found or {path: "[]" if isinstance(value, list) else "{}"}
