"""Documents made up: keys to recall, and repeats to copy."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxkit.errors import DataError
from ctxkit.registry import Registry
from ctxkit.spec import Context, Document
from ctxkit_sources.key_recall import STATEMENT_LENGTH, KeyRecall
from ctxkit_sources.repeats import Repeats

HAYSTACK = [Document("".join(random.Random(0).choices("abcdefgh \n", k=400)), id="h")]


def recalls(**options: int) -> list[Document]:
    """Return documents of the key-recall source."""
    return list(KeyRecall(HAYSTACK, **{"documents": 5, "length": 120, "mentions": 4, "seed": 0, **options}))


@given(st.integers(1, 6), st.integers(2, 6), st.integers(0, 200), st.integers())
def test_key_recall(documents: int, mentions: int, room: int, seed: int) -> None:
    """Every document has exactly its length, its one key exactly so often, and otherwise text of the haystack."""
    length = mentions * STATEMENT_LENGTH + room
    found = recalls(documents=documents, length=length, mentions=mentions, seed=seed)
    assert len(found) == documents
    for document in found:
        assert len(document.text) == length
        assert re.findall(r" key=(\d{5}); ", document.text) == [document.metadata["key"]] * mentions
        assert document.text.replace(f" key={document.metadata['key']}; ", "") in HAYSTACK[0].text
    assert len({document.id for document in found}) == documents


def test_key_recall_follows_the_seed() -> None:
    """The same seed gives the same documents, another one other keys and places."""
    assert recalls(seed=1) == recalls(seed=1)
    assert not {document.metadata["key"] for document in recalls(seed=1)} & {
        document.metadata["key"] for document in recalls(seed=2)
    }
    longer = recalls(seed=1, documents=9)
    assert [document.text for document in longer[:5]] == [document.text for document in recalls(seed=1)]


def test_key_recall_needs_a_haystack() -> None:
    """A haystack shorter than a document is refused with both lengths."""
    with pytest.raises(DataError, match="the haystack of key_recall has 400 characters, 953 are needed"):
        recalls(length=1000)


def test_key_recall_needs_room(faults: Callable[..., Any], minimal: str) -> None:
    """A length that cannot hold the mentions is a fault of the recipe."""
    source = "{kind: key_recall, haystack: {kind: files, paths: [a]}, documents: 1, length: 47}"
    (fault,) = faults(minimal, f"data.sources.0={source}")
    assert fault.message == "4 mentions need at least 48 characters"


@given(st.integers(1, 6), st.integers(1, 40), st.integers(0, 40), st.integers(0, 60), st.integers())
def test_repeats(documents: int, least: int, more: int, room: int, seed: int) -> None:
    """Every document has exactly its length and repeats with its period, which lies within the limits."""
    length = least + more + room
    found = list(Repeats(documents=documents, length=length, periods=(least, least + more), seed=seed))
    assert len(found) == len({document.id for document in found}) == documents
    for document in found:
        period = int(document.metadata["period"])
        assert least <= period <= least + more
        assert len(document.text) == length
        assert document.text[period:] == document.text[: -period or None][: length - period]


def test_repeats_follow_the_seed() -> None:
    """The same seed gives the same documents, another one others; all periods occur."""
    one, again, two = (
        [d.text for d in Repeats(documents=60, length=32, periods=(4, 9), seed=seed)] for seed in (1, 1, 2)
    )
    assert one == again
    assert not set(one) & set(two)
    periods = {d.metadata["period"] for d in Repeats(documents=60, length=32, periods=(4, 9), seed=1)}
    assert periods == {4, 5, 6, 7, 8, 9}


def test_repeats_wrong_periods(faults: Callable[..., Any], minimal: str) -> None:
    """Periods that cannot be are a fault of the recipe."""
    (fault,) = faults(minimal, "data.sources.0={kind: repeats, documents: 1, length: 15}")
    assert fault.message == "needs min_period <= max_period <= length"


def test_fingerprints(registry: Registry, tmp_path: Path) -> None:
    """Made-up documents follow from their options alone, and those around keys from their haystack too."""
    file = tmp_path / "a.txt"
    file.write_text("A")
    kinds = registry.components["source"]
    haystack = {"kind": "files", "paths": [str(file)]}
    recall = {"kind": "key_recall", "haystack": haystack, "documents": 1, "length": 60}
    context = {"components": registry.components}
    options: Any = kinds["key_recall"].model_validate(recall, context=context)
    plain: Any = kinds["repeats"].model_validate({"kind": "repeats", "documents": 1, "length": 60})
    before = options.fingerprint(Context())
    assert before == kinds["files"].model_validate(haystack).fingerprint(Context())  # type: ignore[attr-defined]
    file.write_text("AA")
    assert options.fingerprint(Context()) != before
    assert not plain.fingerprint(Context())
