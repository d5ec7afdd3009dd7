"""A stage that takes no step: scaled, saved and measured, as transformers itself would scale it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from ctxkit.errors import Fault
from ctxkit.train import run
from tests.integration.micro import RECIPE

pytestmark = [pytest.mark.torch, pytest.mark.slow]
ZERO_SHOT = RECIPE.replace("  - name: control", "  - name: unused").split("  - name: unused")[0] + (
    "  - name: zero_shot\n"
    "    rope: {kind: yarn, factor: 2}\n"
    "    data: {sources: [{kind: files, paths: [nowhere/*.txt]}], chunker: {kind: overlap, length: 64}}\n"
    "    train: {max_steps: 0}\n"
    "  - name: trained\n"
    "    rope: {kind: yarn, factor: 2}\n"
    "    data: {sources: [{kind: repeats, documents: 40, length: 100}], chunker: {kind: overlap, length: 64}}\n"
    "    train: {max_steps: 2}\n"
)


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of a run whose second stage takes no step."""
    folder = tmp_path_factory.mktemp("untrained")
    (folder / "recipe.yaml").write_text(ZERO_SHOT, encoding="utf-8")
    return run(folder / "recipe.yaml", folder / "run").path


def test_its_model_is_the_one_before_with_the_scaling_of_transformers(run_dir: Path) -> None:
    """Its logits are those of the base under transformers' own YaRN."""
    base = run_dir / "stages" / "base" / "model"
    config = AutoConfig.from_pretrained(base)
    theta = config.rope_parameters["rope_theta"]
    config.max_position_embeddings = 64
    config.rope_parameters = {
        "rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 32, "rope_theta": theta
    }  # fmt: skip
    ours = AutoModelForCausalLM.from_pretrained(run_dir / "stages" / "zero_shot" / "model")
    theirs = AutoModelForCausalLM.from_pretrained(base, config=config)
    ids = torch.arange(64).unsqueeze(0)
    assert torch.equal(ours(ids).logits, theirs(ids).logits)
    assert not torch.equal(ours(ids).logits, AutoModelForCausalLM.from_pretrained(base)(ids).logits)


def test_it_is_measured_and_reads_no_data(run_dir: Path) -> None:
    """Its record says no steps, its evals are there, its source does not even exist."""
    record = json.loads((run_dir / "stages" / "zero_shot" / "stage.json").read_text(encoding="utf-8"))
    assert (record["from"], record["steps"], record["tokens"]) == ("base", 0, 0)
    assert record["rope"] == {"kind": "yarn", "factor": 2.0, "window": 64}
    assert sorted(file.name for file in (run_dir / "evals" / "zero_shot").iterdir()) == [
        "0-passkey.json",
        "1-perplexity.json",
    ]
    assert set(json.loads((run_dir / "data.json").read_text(encoding="utf-8"))["stages"]) == {"base", "trained"}


def test_the_next_stage_starts_from_it(run_dir: Path) -> None:
    """A stage after it trains its weights."""
    record = json.loads((run_dir / "stages" / "trained" / "stage.json").read_text(encoding="utf-8"))
    assert (record["from"], record["steps"]) == ("zero_shot", 2)


def test_it_has_no_optimizer_to_carry_on(faults: Callable[..., tuple[Fault, ...]]) -> None:
    """Carrying on from it is refused."""
    found = faults(ZERO_SHOT + "    optimizer: carry\n")
    assert [fault.path for fault in found] == [("stages", "trained", "optimizer")]
    assert "takes no step" in found[0].message
