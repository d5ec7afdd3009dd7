"""The page of a sweep: what goes across, a line for the rest, and every number in the table."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from ctxkit_report.sweep_page import write_page


def page(folder: Path, key: str, values: tuple[Any, ...], lengths: tuple[int, ...] = (64, 128)) -> str | None:
    """Return the page of a sweep over one key, with an accuracy at each length and a loss."""
    every = {"low": 0.1, "high": 0.9, "interval": "95 % Student t over seeds", "runs": 3}
    results: list[dict[str, Any]] = []
    for place, value in enumerate(values):
        own = {"values": {key: value}, **every}
        at = [{"task": "passkey", "metric": "accuracy", "length": length, "mean": 0.5} for length in lengths]
        loss = {"task": "train", "metric": "loss", "length": 64, "mean": 2.0 + place}
        results += [{**own, **measured} for measured in (*at, loss)]
    (folder / "sweep.json").write_text(json.dumps({"points": [], "results": results}))
    said = write_page(folder)
    return (folder / "sweep.html").read_text() if said else None


def drawn(text: str) -> list[tuple[str, int]]:
    """Return the label and the number of points of each line."""
    found = re.search(r'id="figures">(.*?)</script>', text, re.DOTALL)
    specs = json.loads(found[1]) if found else {}
    return [(trace["name"], len(trace["y"])) for spec in specs.values() for trace in spec["data"]]


def test_a_number_goes_across(tmp_path: Path) -> None:
    """A line for each context length, and one for the loss."""
    text = page(tmp_path, "train.max_length", (128, 512, 768))
    assert text is not None
    assert drawn(text) == [("64 tokens", 3), ("128 tokens", 3), ("loss", 3)]
    assert "train.max_length (log scale)" in text
    assert text.partition('aria-label="All results"')[2].count("<tr>") == 1 + 9


def test_words_are_lines_over_the_context_length(tmp_path: Path) -> None:
    """Kinds cannot go across: each is a line; a loss, of one length alone, is in the table only."""
    text = page(tmp_path, "rope.kind", ("yarn", "linear"))
    assert text is not None
    assert drawn(text) == [("kind yarn", 2), ("kind linear", 2)]
    assert "context length in tokens (log scale)" in text
    assert "train.loss" in text


def test_nothing_to_draw_is_no_page(tmp_path: Path) -> None:
    """Words at a single length, or no results."""
    assert page(tmp_path, "rope.kind", ("yarn", "linear"), (64,)) is None
    assert page(tmp_path, "rope.kind", ()) is None
