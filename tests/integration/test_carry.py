"""A stage that carries the optimizer on, run whole; one that resets it begins anew."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ctxkit.train import run
from tests.integration.micro import RECIPE


@pytest.mark.parametrize("optimizer", ["carry", "reset"])
def test_stage_goes_on_with_the_optimizer(optimizer: str, tmp_path: Path) -> None:
    """The steps that Adam counts go on across the stages, or begin at one."""
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE)
    sets = ["evals=[]", f"stages.yarn.optimizer={optimizer}", "stages.control.data.sources.0.documents=8"]
    done = run(recipe, tmp_path / "run", sets)
    (state,) = (done.stage("yarn") / "checkpoints").glob("checkpoint-4/optimizer.pt")
    steps = {int(entry["step"]) for entry in torch.load(state, weights_only=True)["state"].values()}
    assert steps == {12 if optimizer == "carry" else 4}
