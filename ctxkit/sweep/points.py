"""The points of a sweep: every combination of the values that a recipe or the command line gives."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ctxkit import layers, yaml_core
from ctxkit.errors import Fault, Origin, RecipeError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from ctxkit.yaml_core import Parsed

MOST = 1000
"""Points of one sweep; more are a mistake."""


@dataclass(frozen=True)
class Point:
    """One run of a sweep."""

    name: str
    """Names its run directory."""
    values: dict[str, Any]
    """By dotted path, as `--set` takes it."""

    @property
    def sets(self) -> tuple[str, ...]:
        """What `--set` is given."""
        return tuple(f"{key}={json.dumps(value)}" for key, value in self.values.items())


def parse_over(text: str) -> tuple[str, tuple[Any, ...]]:
    """Return path and values of `train.seed=0,1,2`; values are YAML.

    Raises:
        RecipeError: it has another form, or a value is given twice.
    """
    key, equals, values = text.partition("=")
    origin = Origin(f"--over {text}")
    if not (equals and key and values.strip()):
        raise RecipeError([Fault((), "needs the form key=value,value", "such as train.seed=0,1,2", origin)])
    return key, checked(key, _plain(yaml_core.parse(f"[{values}]", f"--over {key}")), origin)


def checked(key: str, values: Sequence[Any], origin: Origin | None = None) -> tuple[Any, ...]:
    """Return the values of a path.

    Raises:
        RecipeError: there is none, or one is given twice.
    """
    written = [json.dumps(value) for value in values]
    if not written or len(set(written)) < len(written):
        said = "a value is given twice" if written else "needs at least one value"
        raise RecipeError([Fault(("sweep", key), said, origin=origin)])
    return tuple(values)


def parse_all(texts: Sequence[str]) -> dict[str, tuple[Any, ...]]:
    """Return the values of each path that `--over` names.

    Raises:
        RecipeError: one has another form, or a path or a value is given twice.
    """
    found: dict[str, tuple[Any, ...]] = {}
    for text in texts:
        key, values = parse_over(text)
        if key in found:
            hint = "give all its values at once, such as train.seed=0,1,2"
            raise RecipeError([Fault(("sweep", key), "is given twice", hint, Origin(f"--over {text}"))])
        found[key] = values
    return found


def stated(file: Path, sets: Sequence[str]) -> dict[str, tuple[Any, ...]]:
    """Return the values in the section `sweep` of a recipe, before anything of it is checked."""
    section = layers.read(file, sets).child("sweep")
    values = section.plain() if section else None
    found = values.items() if isinstance(values, dict) else ()
    return {key: tuple(listed) for key, listed in found if isinstance(listed, list) and listed}


def first(over: Mapping[str, Sequence[Any]]) -> Point:
    """Return the point with the first value of each path."""
    return Point("", {key: values[0] for key, values in over.items()})


def points(over: Mapping[str, Sequence[Any]]) -> list[Point]:
    """Return every combination, the last path changing fastest.

    Raises:
        RecipeError: there are no paths, or too many combinations.
    """
    count = math.prod(len(values) for values in over.values())
    if not over:
        hint = "add a section `sweep`, or --over train.seed=0,1,2"
        raise RecipeError([Fault((), "nothing says what to sweep over", hint)])
    if count > MOST:
        raise RecipeError([Fault(("sweep",), f"{count} combinations are more than {MOST}")])
    short = _short_names(tuple(over))
    made: list[Point] = []
    for chosen in itertools.product(*over.values()):
        values = dict(zip(over, chosen, strict=True))
        made.append(Point("_".join(f"{_safe(short[key])}-{_safe(value)}" for key, value in values.items()), values))
    return made


def _short_names(keys: Sequence[str]) -> dict[str, str]:
    """Return the last words of each path, as many as tell them apart."""
    for count in range(1, max(key.count(".") for key in keys) + 2):
        short = {key: ".".join(key.split(".")[-count:]) for key in keys}
        if len(set(short.values())) == len(keys):
            return short
    return {key: key for key in keys}


def _safe(value: Any) -> str:
    """Return a value as a part of a folder's name; with a hash of it where that is not all of it."""
    text = value if isinstance(value, str) else json.dumps(value)
    plain = re.sub(r"[^A-Za-z0-9._]+", "-", text).strip("-.")[:40]
    if plain == text:
        return text
    return "-".join([*([plain] if plain else []), hashlib.sha256(text.encode()).hexdigest()[:6]])


def _plain(parsed: Parsed) -> Any:
    if isinstance(parsed.value, dict):
        return {key: _plain(child) for key, child in parsed.value.items()}
    return [_plain(child) for child in parsed.value] if isinstance(parsed.value, list) else parsed.value
