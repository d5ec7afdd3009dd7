"""Which keys of a recipe may change under a run: each in one class, all of them documented."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from ctxkit import fingerprint, resuming
from ctxkit.errors import ResumeError
from ctxkit.fingerprint import Fingerprint, Kind
from ctxkit.recipe import Recipe
from ctxkit.resuming import FINISHED, INTERRUPTED, Resume
from ctxkit.sft_fields import sft_fields

DOCS = Path(__file__).parents[3] / "docs/run-directory.md"


def recipe(**train: Any) -> dict[str, Any]:
    """Return a plain recipe of two stages, the first of which says something of its training."""
    stages = [{"name": "one", "train": train, "data": {}}, {"name": "two", "train": {}, "data": {}}]
    return {"name": "demo", "model": {}, "stages": stages}


def test_every_class_is_of_real_keys() -> None:
    """No key is in two classes, and each is one of the installed SFTConfig, or of one that it had."""
    classes = (fingerprint.SCHEDULE, fingerprint.BATCH, fingerprint.FREE)
    assert sum(map(len, classes)) == len(frozenset.union(*classes))
    assert frozenset.union(*classes) - sft_fields().keys() <= {"warmup_ratio"}
    assert fingerprint.LENGTH | fingerprint.OPTIMIZER <= fingerprint.SCHEDULE


def test_documented() -> None:
    """The table of docs/run-directory.md names every key of the schedule."""
    table = DOCS.read_text(encoding="utf-8").partition("## What may change")[2].partition("\n## ")[0]
    named = set(re.findall(r"`(?:train\.)?([a-z0-9_]+)`", table))
    assert named >= fingerprint.SCHEDULE | fingerprint.BATCH | {*fingerprint.FREE_OF_RUN, *fingerprint.FREE_OF_STAGE}


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("learning_rate", Kind.SCHEDULE),
        ("max_steps", Kind.SCHEDULE),
        ("gradient_accumulation_steps", Kind.BATCH),
        ("logging_steps", Kind.FREE),
        ("gradient_checkpointing", Kind.FREE),
        ("seed", Kind.ORDER),
        ("eval_strategy", Kind.ORDER),
        ("a_key_of_tomorrow", Kind.ORDER),
    ],
)
def test_kinds(key: str, kind: Kind) -> None:
    """What nobody put into a class may not change."""
    assert fingerprint.kind_of_train(key) is kind


def test_a_curriculum_is_ordered_by_its_length() -> None:
    """With one, the number of steps decides which rows are served when."""
    assert fingerprint.kind_of_train("max_steps", curriculum=True) is Kind.ORDER
    stage = {"train": {"max_steps": 5, "optim": "sgd"}, "curriculum": {"kind": "phases"}}
    assert fingerprint.schedule(stage) == {"optim": "sgd"}


def test_changes_name_old_and_new() -> None:
    """A default that is written out is none; what is free is none."""
    old = recipe(learning_rate=1e-3, weight_decay=0.0, save_steps=4, bf16=True)
    new = Fingerprint(recipe(learning_rate=2e-3, save_steps=5, bf16=False))
    found = {str(change): change.kind for change in fingerprint.changes(old, new)}
    assert found == {
        "stages.one.train.learning_rate: 0.001 -> 0.002": Kind.SCHEDULE,
        "stages.one.train.bf16: true -> false": Kind.ORDER,
    }


def test_missing_keys_have_their_defaults() -> None:
    """By the models of the newer version, also inside of lists; another kind of component is not filled."""

    class Part(BaseModel):
        kind: str
        size: int = 3

    class Whole(BaseModel):
        parts: tuple[Part, ...]
        name: str = "x"
        needed: int

    whole = Whole(parts=(Part(kind="a", size=4), Part(kind="b")), needed=1)
    old = {"parts": [{"kind": "a"}, {"kind": "c"}], "needed": 2}
    assert fingerprint.filled(old, whole) == {
        "parts": [{"kind": "a", "size": 3}, {"kind": "c"}],
        "needed": 2,
        "name": "x",
    }


def test_recipe_sections_are_classed() -> None:
    """Each key of a recipe is free or decides on what is trained; the free ones are there."""
    assert Recipe.model_fields.keys() >= fingerprint.FREE_OF_RUN


@pytest.mark.parametrize(("how", "kept"), [(INTERRUPTED, {"keep"}), (FINISHED, {"keep", "reset"})])
def test_whose_schedule_goes_on(how: str, kept: set[str], tmp_path: Path) -> None:
    """The old one with `keep`, the new one with `reset`; a finished stage keeps its own, others take the new."""
    old = recipe(learning_rate=1e-3)
    new = recipe(learning_rate=2e-3)
    for stage in new["stages"]:
        stage["train"] = {"learning_rate": 2e-3}
    for choice in ("keep", "reset"):
        made = resuming.decide(old, Fingerprint(new), {"one": how}, Resume(on_change=choice), tmp_path)
        rates = [stage["train"]["learning_rate"] for stage in made.recipe["stages"]]
        assert rates == [1e-3 if choice in kept else 2e-3, 2e-3]
    with pytest.raises(ResumeError, match="the schedule changed"):
        resuming.decide(old, Fingerprint(new), {"one": how}, Resume(), tmp_path)
    made = resuming.decide(old, Fingerprint(new), {}, Resume(), tmp_path)
    assert [stage["train"]["learning_rate"] for stage in made.recipe["stages"]] == [2e-3, 2e-3]


def test_a_tokenizer_of_all_documents_is_trained_on_those_of_every_stage(tmp_path: Path) -> None:
    """Other documents of a stage that has not begun are drift where the tokenizer was trained on them."""
    old, new = recipe(), recipe()
    new["stages"][1]["data"] = {"max_tokens": 5}
    resuming.decide(old, Fingerprint(new), {"one": INTERRUPTED}, Resume(), tmp_path)
    for each in (old, new):
        each["tokenizer"] = {"train": {"vocab_size": 300}}
    with pytest.raises(ResumeError, match=r"stages\.two\.data\.max_tokens: null -> 5"):
        resuming.decide(old, Fingerprint(new), {"one": INTERRUPTED}, Resume(), tmp_path)


def test_stages_may_be_added_behind(tmp_path: Path) -> None:
    """A stage that nothing was trained of may come or go; one that another starts from may not."""
    old, new = recipe(), recipe()
    new["stages"].append({"name": "three", "train": {}, "data": {}})
    resuming.decide(old, Fingerprint(new), {"one": FINISHED, "two": INTERRUPTED}, Resume(), tmp_path)
    new["stages"].insert(1, {"name": "between", "train": {}, "data": {}})
    with pytest.raises(ResumeError, match=r'stages\.two\.from: "one" -> "between"'):
        resuming.decide(old, Fingerprint(new), {"one": FINISHED, "two": INTERRUPTED}, Resume(), tmp_path)
