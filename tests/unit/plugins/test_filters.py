"""What all filters promise, and those by length."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ctxkit.registry import Registry
from ctxkit.spec import Context, Document, EncodedDocument
from ctxkit.testing import check_options

EXAMPLES: dict[str, dict[str, Any]] = {
    "length": {"min_characters": 3, "max_characters": 5},
    "tokens": {"min_tokens": 3, "max_tokens": 5},
    "repetition": {"max_ratio": 0.1, "ngram": 20},
    "truncation": {"patterns": ["the end of the sample"], "code_fences": False},
    "exact_duplicates": {},
    "near_duplicates": {"threshold": 0.9, "num_perm": 256, "ngram": 3},
    "leakage": {"against": [{"kind": "files", "paths": ["*.txt"]}], "max_matches": 2, "max_ratio": 0.1},
    "secrets": {"kinds": ["aws", "github"]},
}


def judged(registry: Registry, text: str, **options: int) -> str | None:
    """Return what the length filter says of a text."""
    cls: Any = registry.components["filter"]["length"]
    verdict: str | None = cls.model_validate({"kind": "length", **options}).build(Context())(Document(text, "d"))
    return verdict


def counted(registry: Registry, tokens: int, **options: int) -> str | None:
    """Return what the filter by tokens says of a document of so many."""
    cls: Any = registry.components["filter"]["tokens"]
    document = EncodedDocument(Document("", "d"), np.zeros(tokens, dtype=np.int32))
    verdict: str | None = cls.model_validate({"kind": "tokens", **options}).build(Context())(document)
    return verdict


@pytest.mark.parametrize("kind", EXAMPLES)
def test_options(registry: Registry, kind: str) -> None:
    """Every filter's options are documented, strict, and cheap to import."""
    check_options(registry.components["filter"][kind], {"kind": kind, **EXAMPLES[kind]})


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


@pytest.mark.parametrize(
    ("tokens", "reason"), [(2, "shorter than 3 tokens"), (3, None), (5, None), (6, "longer than 5 tokens")]
)
def test_tokens(registry: Registry, tokens: int, reason: str | None) -> None:
    """Both limits belong to what stays; what goes is told why."""
    assert counted(registry, tokens, min_tokens=3, max_tokens=5) == reason


def test_tokens_by_default(registry: Registry) -> None:
    """Unless told otherwise, only empty documents go."""
    assert counted(registry, 0) == "shorter than 1 tokens"
    assert counted(registry, 10_000) is None


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ("kind: length, min_characters: 9, max_characters: 3", "min_characters"),
        ("kind: tokens, min_tokens: 9, max_tokens: 3", "min_tokens"),
        ("kind: repetition, method: window, max_ratio: 0.3", "max_ratio"),
        ("kind: repetition, threshold: 0.9", "threshold"),
    ],
)
def test_options_that_do_not_fit(faults: Callable[..., Any], minimal: str, options: str, key: str) -> None:
    """A greatest length below the least is a fault of the recipe, and so is an option that the method never reads."""
    (fault,) = faults(minimal, f"data.filters=[{{{options}}}]")
    assert fault.dotted == f"data.filters.0.{key}"


def test_patterns_are_regular_expressions(faults: Callable[..., Any], minimal: str) -> None:
    """A pattern that cannot be compiled is a fault of the recipe, which shows it."""
    (fault,) = faults(minimal, 'data.filters=[{kind: truncation, patterns: ["fine", "(never closed"]}]')
    assert fault.dotted.startswith("data.filters.0.patterns")
    assert "(never closed" in fault.message
