"""What follows for SFTConfig from the rest of a recipe: the tokens of a step stay the same when rows grow."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from ctxkit.checks import warnings
from ctxkit.identity import plain
from ctxkit.plan import plan
from ctxkit.registry import Registry
from ctxkit.schema import recipe_schema
from ctxkit.settings import accumulation, sft_settings, tokens_per_step

GROWING = """\
name: growing
model: {name_or_path: some/model, original_max_position_embeddings: 4096}
rope: {kind: yarn, target_length: 32768}
data:
  sources: [{kind: files, paths: ["*.txt"]}]
  chunker: {kind: overlap, length: 4096}
train: {max_steps: 5, per_device_train_batch_size: 2, gradient_accumulation_steps: 64}
stages:
  - {name: 4k}
  - {name: 8k, data: {chunker: {length: 8192}}}
  - {name: 8k-again, data: {chunker: {length: 8192}}}
  - {name: 32k, data: {chunker: {length: 32768}}}
  - {name: short, data: {chunker: {length: 2048}}}
"""
Load = Callable[..., Any]


def steps(located: Any) -> dict[str, int]:
    """Return the accumulation of each stage."""
    settings = {stage.name: sft_settings(located, stage) for stage in located.recipe.stages}
    return {name: made["gradient_accumulation_steps"].value for name, made in settings.items()}


def test_tokens_of_a_step_stay(load: Load) -> None:
    """Four times the length, a quarter of the accumulation; a stage of the same length goes on as the one before."""
    located = load(GROWING)
    assert steps(located) == {"4k": 64, "8k": 32, "8k-again": 32, "32k": 8, "short": 128}
    assert {tokens_per_step(located, stage, 1) for stage in located.recipe.stages} == {64 * 2 * 4096}
    assert warnings(located) == []
    planned = plan(located)
    assert {stage["tokens_per_step"] for stage in planned["stages"]} == {64 * 2 * 4096}
    said = planned["values"]["stages.32k.train.gradient_accumulation_steps"]
    assert said == {"value": 8, "origin": "follows from stage 8k-again: the tokens of a step stay the same"}


def test_a_stage_of_no_steps_changes_nothing(load: Load) -> None:
    """Rows that nobody reads decide on no batch, exceed no window, and are noted nowhere."""
    between = "  - {name: none, train: {max_steps: 0}, data: {chunker: {length: 100000}}}\n"
    located = load(GROWING.replace("  - {name: 8k,", f"{between}  - {{name: 8k,"))
    assert located.recipe.stages[1].name == "none"
    kept = {"4k": 64, "8k": 32, "8k-again": 32, "32k": 8, "short": 128}
    assert {name: made for name, made in steps(located).items() if name != "none"} == kept
    assert warnings(located) == []


@pytest.mark.parametrize("key", ["per_device_train_batch_size", "gradient_accumulation_steps"])
def test_what_a_stage_states_stays(key: str, load: Load) -> None:
    """A stage that states a batch size or an accumulation has chosen; one of the same length has what the top says."""
    located = load(GROWING, f"stages.8k.train.{key}=64")
    assert accumulation(located, located.recipe.stages[1]) is None
    assert steps(located)["8k"] == 64
    tokens = [tokens_per_step(located, stage, 1) for stage in located.recipe.stages]
    assert tokens[1] == 64 * 8192 * (2 if key.startswith("grad") else 64)
    assert tokens[2] == tokens[3] == 64 * 2 * 8192


RATES = GROWING.replace("train: {", "train: {learning_rate: 2.0e-5 / sqrt(factor), ")


def test_rate_by_the_factor(load: Load) -> None:
    """2e-5 / sqrt(8) is 7.07e-6, as in the sources that recommend it; a stage without scaling has factor 1."""
    located = load(RATES, "stages.8k.rope.target_length=16384", "stages.short.from=model", "stages.short.rope=null")
    rates = {stage.name: sft_settings(located, stage)["learning_rate"].value for stage in located.recipe.stages}
    assert rates["32k"] == pytest.approx(7.0710678e-6, rel=1e-6)
    assert rates["8k"] == 1.0e-5
    assert rates["short"] == 2.0e-5
    said = plan(located)["values"]["stages.8k.train.learning_rate"]
    assert said["value"] == 1.0e-5
    assert said["origin"].endswith("recipe.yaml:7:24: 2.0e-5 / sqrt(factor), with factor 4")
    assert plain(located.recipe)["stages"][0]["train"]["learning_rate"] == "2.0e-5 / sqrt(factor)"


def test_rate_is_that_of_the_scaling_in_force(load: Load) -> None:
    """A stage that states no scaling trains with that of the stage before."""
    located = load(RATES, "rope=null", "stages.4k.rope={kind: yarn, factor: 16}", "train.learning_rate=1.6e-4 / factor")
    assert {sft_settings(located, stage)["learning_rate"].value for stage in located.recipe.stages} == {1.0e-5}


@pytest.mark.parametrize("written", ["2e-5/sqrt(factor)", "2.e-5 / factor", "1 / factor"])
def test_spellings_of_a_rate(written: str, load: Load) -> None:
    """Spaces and the form of the number are free, also to the schema."""
    assert load(RATES, f"train.learning_rate={written}")
    pattern = recipe_schema(Registry({}))["$defs"]["train"]["properties"]["learning_rate"]["anyOf"][1]["pattern"]
    assert re.search(pattern, written)


@pytest.mark.parametrize(
    "written", ["1e999 / factor", "2e-5 / sqrt(8)", "2e-5 * factor", "-1 / factor", "factor / 2", "/ factor"]
)
def test_other_rates_are_refused(written: str, faults: Callable[..., Any]) -> None:
    """Nothing is computed but these two rules."""
    (fault,) = faults(RATES, f"train.learning_rate={written}")
    assert (fault.path[-1], "needs a number" in fault.message) == ("learning_rate", True)
    assert ("or one of the rules" in fault.hint) == ("factor" in written)


def test_rate_without_a_factor(faults: Callable[..., Any]) -> None:
    """A window that only the model knows, or an adapter that may bring a scaling: what to state is said."""
    found = faults(RATES.replace(", original_max_position_embeddings: 4096", ""))
    assert "state model.original_max_position_embeddings" in found[0].hint
    (fault,) = faults(RATES, "rope=null", "model.adapter_name_or_path=some/adapter")
    assert fault.dotted.endswith("train.learning_rate")


def test_stages_of_one_length_inherit(load: Load) -> None:
    """Where no length changes, the top of the recipe holds for every stage."""
    located = load(GROWING.replace("length: 8192", "length: 4096").replace("length: 32768", "length: 4096"))
    assert steps(located) == {"4k": 64, "8k": 64, "8k-again": 64, "32k": 64, "short": 128}


def test_what_cannot_be_kept_is_said(load: Load) -> None:
    """An accumulation of 3/2 there is not: the next greater one is taken, and said."""
    located = load(GROWING, "train.gradient_accumulation_steps=3")
    assert steps(located)["8k"] == 2
    (first, *_) = warnings(located)
    assert "stage 8k sees 32,768 tokens a step in each process, and stage 4k 24,576" in first.message
    assert first.dotted == "stages.8k.data.chunker.length"


def test_stage_from_the_model_has_no_stage_before(load: Load) -> None:
    """A control that starts from the model itself takes what the recipe says."""
    located = load(GROWING, "stages.32k.from=model")
    assert steps(located)["32k"] == 64


def test_scaling_of_a_stage_before_limits_the_rows(faults: Callable[..., Any]) -> None:
    """A stage that inherits a scaling cannot have rows beyond its window."""
    text = GROWING.replace("rope: {kind: yarn, target_length: 32768}\n", "").replace(
        "{name: 4k}", "{name: 4k, rope: {kind: yarn, target_length: 16384}}"
    )
    (fault,) = faults(text)
    assert fault.dotted == "stages.32k.data.chunker.length"
    assert "exceed the extended window of 16384" in fault.message
    assert "the scaling of a stage before it holds here" in fault.hint


def test_skipping_positions_need_a_mask(faults: Callable[..., Any], minimal: str) -> None:
    """Without padding TRL makes no mask, and transformers would cut at each jump."""
    pose = "data.chunker={kind: pose, length: 128, target_length: 256}"
    (fault,) = faults(minimal, pose, "train.padding_free=true", "rope=null")
    assert (fault.dotted, "positions that skip" in fault.message) == ("train.padding_free", True)


@pytest.mark.parametrize(
    ("sets", "at", "said"),
    [
        (
            ("stages.8k.optimizer=carry", "stages.4k.train.save_strategy=no"),
            "stages.8k.optimizer",
            "saves no checkpoint",
        ),
        (("stages.4k.optimizer=carry",), "stages.4k.optimizer", "no stage before it"),
        (("stages.8k.optimizer=carry", "stages.8k.train.optim=sgd"), "stages.8k.train.optim", "that is carried on"),
        (("stages.8k.optimizer=carry", "stages.8k.adapter={r: 8}"), "stages.8k.optimizer", "trains other weights"),
    ],
)
def test_optimizers_that_cannot_be_carried(
    sets: tuple[str, ...], at: str, said: str, faults: Callable[..., Any]
) -> None:
    """What would fail only when the stage before is trained is found at once."""
    found = faults(GROWING, *sets)
    assert any(fault.dotted == at and said in fault.message for fault in found), found
