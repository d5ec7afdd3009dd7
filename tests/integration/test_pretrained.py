"""A model that has weights: measured untouched, extended, and extended again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from ctxkit.train import run
from tests.integration.micro import RECIPE

pytestmark = pytest.mark.torch

EXTENSION = """\
name: extend
model: {{name_or_path: {model}}}
train: {{bf16: false, activation_checkpointing: false, max_steps: 2, per_device_train_batch_size: 2, logging_steps: 1}}
data:
  sources: [{{kind: repeats, documents: 8, length: 120}}]
  chunker: {{kind: overlap, length: 128}}
evals:
  - {{kind: perplexity, source: {{kind: repeats, documents: 4, length: 200}}, lengths: [16, 128], windows: 2}}
stages:
  - {{name: control, from: model, rope: null}}
  - {{name: extended, from: model, rope: {{kind: {kind}, target_length: 128}}}}
"""


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that left a model with a window of 32 tokens and one extended to 64."""
    folder = tmp_path_factory.mktemp("pretrained")
    (folder / "micro.yaml").write_text(RECIPE, encoding="utf-8")
    return run(folder / "micro.yaml", folder / "run", ["evals=[]", "train.max_steps=1"]).path


@pytest.mark.parametrize("kind", ["yarn", "linear"])
@pytest.mark.parametrize("stage", ["base", "yarn"])
def test_factor_is_relative_to_the_true_original_window(
    kind: str, stage: str, pretrained: Path, tmp_path: Path
) -> None:
    """To 128 tokens the factor is 4, from the base and from the model already extended to 64 alike."""
    recipe = tmp_path / "extend.yaml"
    recipe.write_text(EXTENSION.format(model=pretrained / f"stages/{stage}/model", kind=kind), encoding="utf-8")
    directory = run(recipe, tmp_path / "run")
    config = json.loads((directory.model("extended") / "config.json").read_text())
    assert config["rope_parameters"]["factor"] == 4.0
    assert config["rope_parameters"]["rope_theta"] == 10000.0
    assert config["max_position_embeddings"] == 128
    lowest = AutoModelForCausalLM.from_pretrained(directory.model("extended")).model.rotary_emb.inv_freq[-1]
    assert float(lowest) == pytest.approx(10000.0 ** (-14 / 16) / 4, rel=1e-6)


def test_the_untouched_model_is_measured_first(pretrained: Path, tmp_path: Path) -> None:
    """The report compares with the model as it came: same weights, same frequencies, measured before any training."""
    recipe = tmp_path / "extend.yaml"
    recipe.write_text(EXTENSION.format(model=pretrained / "stages/base/model", kind="yarn"), encoding="utf-8")
    directory = run(recipe, tmp_path / "run")
    records = json.loads((directory.path / "run.json").read_text())["stages"]
    assert [(record["name"], record["from"]) for record in records] == [
        ("model", None), ("control", "model"), ("extended", "model"),
    ]  # fmt: skip
    report = json.loads(next((directory.path / "evals/model").glob("*.json")).read_text())
    ids = torch.tensor([[ord(c) % 256 for c in "abcdefgh"]])
    untouched = AutoModelForCausalLM.from_pretrained(pretrained / "stages/base/model")
    control = AutoModelForCausalLM.from_pretrained(directory.model("control"))
    assert not torch.equal(untouched(ids).logits, control(ids).logits)
    assert len([item for item in report["measurements"] if item["positions"] is None]) == 4


def test_before_survives_a_stage_without_evals(pretrained: Path, tmp_path: Path) -> None:
    """A second stage that starts from the model and measures nothing leaves the untouched model's numbers alone."""
    recipe = tmp_path / "extend.yaml"
    text = EXTENSION.format(model=pretrained / "stages/base/model", kind="yarn")
    text = text.replace("{name: control,", "{name: control, evals: [],") + "result: extended\n"
    recipe.write_text(text, encoding="utf-8")
    directory = run(recipe, tmp_path / "run")
    assert len(list((directory.path / "evals/model").glob("*.json"))) == 1
    assert not list((directory.path / "evals").glob("control/*.json"))


@pytest.mark.parametrize("rope", ["{kind: yarn, factor: 2}", "{kind: yarn, target_length: 64}"])
def test_rows_beyond_a_window_that_only_the_config_says(rope: str, pretrained: Path, tmp_path: Path) -> None:
    """The recipe names a factor and rows of 128 tokens; that the model has 32 is found out when it is read."""
    from ctxkit.errors import RecipeError

    text = EXTENSION.format(model=pretrained / "stages/base/model", kind="yarn")
    recipe = tmp_path / "long.yaml"
    recipe.write_text(text.replace("{kind: yarn, target_length: 128}", rope), encoding="utf-8")
    with pytest.raises(RecipeError) as caught:
        run(recipe, tmp_path / "run")
    (fault,) = caught.value.faults
    assert fault.path == ("data", "chunker", "length") or fault.path[-1] == "length"
    assert "chunks of up to 128 tokens exceed the extended window of 64 tokens" in fault.message
    assert not list((tmp_path / "run").glob("stages/*/checkpoints"))


def test_window_that_a_scaled_config_does_not_hold_must_be_stated(pretrained: Path, tmp_path: Path) -> None:
    """Linear scaling leaves no trace of the original window: it is asked for, never guessed."""
    from ctxkit.errors import CtxkitError

    recipe = tmp_path / "extend.yaml"
    recipe.write_text(EXTENSION.format(model=pretrained / "stages/base/model", kind="linear"), encoding="utf-8")
    extended = run(recipe, tmp_path / "first").model("extended")
    recipe.write_text(EXTENSION.format(model=extended, kind="linear"), encoding="utf-8")
    with pytest.raises(CtxkitError, match="set model"):
        run(recipe, tmp_path / "second")
    stated = run(recipe, tmp_path / "third", ["model.original_max_position_embeddings=32"])
    assert json.loads((stated.model("extended") / "config.json").read_text())["rope_parameters"]["factor"] == 4.0


def test_llama3_scaling_is_not_overwritten(pretrained: Path, tmp_path: Path) -> None:
    """A model that carries another scaling is refused with the reason, before anything is trained."""
    from ctxkit.errors import CtxkitError, ExitCode

    source = pretrained / "stages/base/model"
    copy = tmp_path / "llama3"
    copy.mkdir()
    for file in source.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    config = json.loads((copy / "config.json").read_text())
    config["rope_parameters"] = {
        "rope_type": "llama3", "rope_theta": 10000.0, "factor": 2.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32,
    }  # fmt: skip
    (copy / "config.json").write_text(json.dumps(config))
    recipe = tmp_path / "extend.yaml"
    recipe.write_text(EXTENSION.format(model=copy, kind="yarn"), encoding="utf-8")
    with pytest.raises(CtxkitError, match="llama3") as caught:
        run(recipe, tmp_path / "run", ["stages.control.rope={kind: yarn, factor: 4}"])
    assert caught.value.exit_code == ExitCode.RECIPE
