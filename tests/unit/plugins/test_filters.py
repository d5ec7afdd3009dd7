"""Which documents stay."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ctxkit.registry import Registry
from ctxkit.spec import Context, Document


def judged(registry: Registry, text: str, **options: int) -> str | None:
    """Return what the length filter says of a text."""
    cls: Any = registry.components["filter"]["length"]
    verdict: str | None = cls.model_validate({"kind": "length", **options}).build(Context())(Document(text, "d"))
    return verdict


@pytest.mark.parametrize(
    ("characters", "reason"),
    [(2, "shorter than 3 characters"), (3, None), (5, None), (6, "longer than 5 characters")],
)
def test_length(registry: Registry, characters: int, reason: str | None) -> None:
    """Both limits belong to what stays; what goes is told why."""
    assert judged(registry, "é" * characters, min_characters=3, max_characters=5) == reason


def test_length_by_default(registry: Registry) -> None:
    """Unless told otherwise, only empty documents go."""
    assert judged(registry, "") == "shorter than 1 characters"
    assert judged(registry, "x" * 10_000) is None


def test_length_limits_in_order(faults: Callable[..., Any], minimal: str) -> None:
    """A greatest length below the least is a fault of the recipe."""
    (fault,) = faults(minimal, "data.filters=[{kind: length, min_characters: 9, max_characters: 3}]")
    assert fault.dotted == "data.filters.0"
