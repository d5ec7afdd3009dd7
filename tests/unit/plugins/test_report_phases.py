"""The phases of a curriculum as the report shows them."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any

from ctxkit_report.notation import NONE
from ctxkit_report.page import write_report

LINE: dict[str, Any] = {
    "phase": "long <b>",
    "epoch": 2,
    "first_step": 13,
    "last_step": 19,
    "length": [16, 2048],
    "window": None,
    "learning_rate": 0.5,
    "examples": 1128,
    "difficulty": {"easy": 9, "medium": 0, "very_hard": 1119},
    "train_loss": 4.9372,
    "perplexity": 139.4,
    "eval_loss": None,
    "eval_perplexity": None,
    "grad_norm": {"min": 0.83, "mean": 1.079, "max": 1.18},
}
MADE = {"rows": 27, "rows_left_out": 2, "tokens_left_out": 4100, "rows_served": 1204, "rows_cut": 0,
        "skipped": {"phase last": "no row of 4096 tokens or more"}}  # fmt: skip


def said(folder: Path, *lines: dict[str, Any]) -> str:
    """Return the words of the page of a run whose one stage had these phases, cells divided by bars."""
    stage = {"name": "tuned", "from": None, "steps": 19, "curriculum": {**MADE, "phases": list(lines)}}
    (folder / "run.json").write_text(json.dumps({"name": "r", "status": "done", "stages": [stage]}), encoding="utf-8")
    page = write_report(folder).read_text(encoding="utf-8")
    return html.unescape(re.sub(r"<[^>]+>", "", re.sub(r"</t[hd]>", " | ", page)))


def test_a_phase_is_written_out(tmp_path: Path) -> None:
    """Each figure stands in its column; columns in which no phase has anything are left out."""
    page = said(tmp_path, LINE)
    assert "Phases of tuned" in page
    assert "Phase | Steps | Row (tokens) | × rate | Rows | By difficulty | Loss | Gradient norm |" in page
    assert (
        "long <b>, pass 2 | 13 to 19 | 16 to 2,048 | 0.5 | 1,128 | easy 9, very hard 1,119 | 4.937 (139) "
        "| 0.83 · 1.08 · 1.18 |"
    ) in page


def test_what_was_not_served_is_said(tmp_path: Path) -> None:
    """Rows that no phase had, and phases that had no rows."""
    page = said(tmp_path, LINE)
    assert "25 of 27 rows served, 1,204 times in all; 4,100 tokens left out with the others" in page
    assert "skipped: phase last (no row of 4096 tokens or more)" in page


def test_windows_and_validation_have_columns_where_there_are_any(tmp_path: Path) -> None:
    """Of one phase that has them and one that has none."""
    page = said(tmp_path, {**LINE, "window": [16, 24], "eval_loss": 5.079, "eval_perplexity": 160.6}, LINE)
    assert "Row (tokens) | Window (tokens) | × rate" in page
    assert "16 to 2,048 | 16 to 24 | 0.5" in page
    assert "4.937 (139) | 5.079 (161) |" in page
    assert f"4.937 (139) | {NONE} |" in page


def test_a_damaged_record_is_no_obstacle(tmp_path: Path) -> None:
    """Whatever stands where figures should."""
    page = said(tmp_path, dict.fromkeys(LINE, "?"))
    assert "? |" + f" {NONE} |" * 6 in page
