"""Prompts, answers and scores are RULER's.

The file was written by `benchmarks/ruler_reference.py`, by RULER's own scripts at the commit that it names.
"""

from __future__ import annotations

import hashlib
import json
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from benchmarks.ruler_reference import PIECES, essays
from ctxkit_evals.ruler.drawing import Frame
from ctxkit_evals.ruler.names import NAMES
from ctxkit_evals.ruler.scoring import cleaned, percent, share_found
from ctxkit_evals.ruler.tasks import Given, made

KNOWN = json.loads(Path(__file__).with_name("ruler_reference.json").read_text(encoding="utf-8"))
OURS = {name.removesuffix("_own_text"): name for name in NAMES}


def _tokens(text: str) -> int:
    return len(PIECES.findall(text))


def test_all_tasks_are_compared() -> None:
    """The file has prompts for every task that we have."""
    assert {case["task"] for case in KNOWN["prompts"] if len(case["samples"]) == 4} == set(OURS)


@pytest.mark.parametrize("case", KNOWN["prompts"], ids=lambda case: f"{case['task']} {case['length']}")
def test_prompts(case: dict[str, Any]) -> None:
    """Letter for letter; the tasks in a text with RULER's essays and nltk's sentences put in place there."""
    (task,) = made([OURS[case["task"]]], Given(frame=Frame(*case["frame"]), text=essays().split()))
    for ours, theirs in zip(islice(task.prompts(case["length"], _tokens), 9), case["samples"], strict=False):
        assert list(ours.answers) == theirs["answers"]
        assert _tokens(ours.text) + task.room == theirs["length"] <= case["length"]
        assert hashlib.sha256(ours.text.encode()).hexdigest() == theirs["sha256"]


def test_scores() -> None:
    """Of outputs with some, all or none of the answers, in both cases and between control characters."""
    assert len({case["score"] for case in KNOWN["scores"]}) > 20
    for case in KNOWN["scores"]:
        assert [cleaned(output) for output, _ in case["outputs"]] == case["cleaned"]
        assert percent([share_found(output, answers) for output, answers in case["outputs"]]) == case["score"]
