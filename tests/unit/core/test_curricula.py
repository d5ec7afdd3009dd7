"""What a recipe may say beside a curriculum, and what follows from it."""

from __future__ import annotations

import pytest

from ctxkit import plan, settings
from tests.conftest import Faults, Load

RECIPE = """\
name: demo
model: {name_or_path: some/model}
data:
  sources: [{kind: files, paths: ["*.txt"]}]
  chunker: {kind: overlap, length: 4096}
curriculum:
  kind: phases
  phases:
    - {name: general, epochs: 5, most: 1024}
    - {name: long, steps: 8, least: 1536, most: 2048, learning_rate: 0.5}
    - {name: extended, epochs: 8, least: 3072, learning_rate: 0.1, difficulty: [hard, very_hard], optional: true}
"""
GROW = "curriculum={kind: grow, start: 32}"
PACKED = "data.packing={}"


def test_what_follows_from_a_curriculum(load: Load) -> None:
    """Rows are served once, in order; every step is logged unless the recipe says otherwise."""
    located = load(RECIPE)
    found = settings.sft_settings(located, located.recipe.stages[0])
    assert (found["train_sampling_strategy"].value, found["num_train_epochs"].value) == ("sequential", 1)
    assert found["logging_steps"].value == 1
    assert found["num_train_epochs"].origin.startswith("follows from curriculum")
    stated = load(RECIPE, "train.logging_steps=5", "train.max_steps=-1", "train.num_train_epochs=-1")
    found = settings.sft_settings(stated, stated.recipe.stages[0])
    assert (found["logging_steps"].value, found["num_train_epochs"].value) == (5, 1)


def test_no_curriculum_changes_nothing(load: Load, minimal: str) -> None:
    """Without one, or where a stage says null, the order is the trainer's own."""
    for located in (load(minimal), load(RECIPE, "curriculum=null")):
        found = settings.sft_settings(located, located.recipe.stages[0])
        assert not {"train_sampling_strategy", "num_train_epochs", "logging_steps"} & set(found)
        assert plan.plan(located)["stages"][0]["curriculum"] is None


def test_stage_takes_the_curriculum_of_the_top_away(load: Load) -> None:
    """A curriculum is laid over the top as any section is."""
    located = load(RECIPE + "stages:\n  - {name: a}\n  - {name: b, curriculum: null}\n")
    first, second = located.recipe.stages
    assert first.curriculum is not None
    assert second.curriculum is None


def test_plan_shows_phases(load: Load) -> None:
    """Each phase in a line: how long, which lengths, which learning rate."""
    text = plan.render(plan.plan(load(RECIPE)))
    start = text.index("curriculum of stage demo (phases):")
    assert text[start:].splitlines()[1:4] == [
        "  general: 5 epochs, 0 to 1,024 tokens, learning rate x1",
        "  long: 8 steps, 1,536 to 2,048 tokens, and shorter, learning rate x0.5",
        "  extended: 8 epochs, 3,072 tokens or more, and shorter, hard, very_hard, learning rate x0.1, optional",
    ]


@pytest.mark.parametrize(
    ("sets", "path", "hint"),
    [
        (["train.train_sampling_strategy=sequential"], "train.train_sampling_strategy", "decides on the order"),
        (["train.ignore_data_skip=true"], "train.ignore_data_skip", "begin its phases again"),
        (["train.auto_find_batch_size=true"], "train.auto_find_batch_size", "steps of so many rows"),
        (["train.lr_scheduler_type=reduce_lr_on_plateau"], "train.lr_scheduler_type", "from the step alone"),
        (["train.accelerator_config={split_batches: true}"], "train.accelerator_config", "in another order"),
        (["train.max_steps=9"], "train.max_steps", "write -1 here"),
        (["train.num_train_epochs=2"], "train.num_train_epochs", "write -1 here"),
        ([GROW], "curriculum.kind", "add `packing: {}`"),
        ([GROW, "data.packing={document_mask: false}"], "curriculum.kind", "add `packing: {}`"),
    ],
)
def test_refused_beside_a_curriculum(faults: Faults, sets: list[str], path: str, hint: str) -> None:
    """Each of these would serve other rows than the curriculum says, or say the same thing twice."""
    (fault,) = faults(RECIPE, *sets)
    assert fault.dotted == path
    assert hint in fault.hint


def test_allowed_beside_a_curriculum(load: Load) -> None:
    """A curriculum that leaves the length of the training to `train` takes it from there."""
    load(RECIPE, GROW, PACKED, "train.max_steps=9")
    load(RECIPE, GROW, PACKED, "train.num_train_epochs=2")
    load(RECIPE, "train.ignore_data_skip=false", "train.accelerator_config={even_batches: true}")
