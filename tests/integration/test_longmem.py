"""The MLP in tiles, on one process and on two, whatever spreads the weights: the run without tiles, to a rounding."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch

from ctxkit.errors import ExitCode
from tests.integration.forking import Server
from tests.integration.test_parallel import ROUNDING, WEIGHTS, model, steps, written

pytestmark = [pytest.mark.torch, pytest.mark.slow]

TILES = {"patches": [{"kind": "tiled_mlp", "tile": 10}]}
MLP = {"adapter": {"r": 4, "target_modules": ["up_proj", "down_proj"]}}
ZERO3 = {"launch": {"deepspeed": "zero3"}}
FSDP = {"launch": {"fsdp": True}}
CASES: dict[str, tuple[int, dict[str, Any]]] = {
    "one": (1, {}),
    "one-lora": (1, MLP),
    "ddp": (2, {}),
    "zero3": (2, ZERO3),
    "zero3-lora": (2, {**ZERO3, **MLP}),
    "zero3-checkpoints": (2, ZERO3),
    "fsdp": (2, FSDP),
    "fsdp-checkpoints": (2, {"launch": {"fsdp": True, "fsdp_config": {"activation_checkpointing": True}}}),
}


@pytest.fixture(scope="module")
def plain(forks: Server, start: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    """The runs of one process without tiles: all weights, and with an adapter inside the MLP."""
    runs = {}
    for lora in (False, True):
        folder = tmp_path_factory.mktemp("plain")
        forks.start(written(folder, start, MLP if lora else {}, 4), folder / "run")
        assert forks.ended() == [ExitCode.DONE]
        runs[lora] = folder / "run"
    return runs


@pytest.mark.parametrize("name", CASES)
def test_trains_the_same(name: str, forks: Server, start: Path, plain: dict[bool, Path], tmp_path: Path) -> None:
    """Losses, gradient norms and what is saved are those of one process without tiles; rows of a step differ."""
    processes, sections = CASES[name]
    if name.startswith("zero") and importlib.util.find_spec("deepspeed") is None:
        pytest.skip("deepspeed is not installed")
    recipe = written(tmp_path, start, {**sections, **TILES}, 4 // processes)
    layers = ["train.activation_checkpointing=true"] if name == "zero3-checkpoints" else []
    forks.start(recipe, tmp_path / "run", layers, world=processes)
    assert forks.ended() == [ExitCode.DONE] * processes
    whole = plain["adapter" in sections]
    found, wanted = steps(tmp_path / "run"), steps(whole)
    assert found.keys() == wanted.keys()
    assert all(found[step] == pytest.approx(wanted[step], rel=ROUNDING) for step in wanted)
    saved, expected = model(tmp_path / "run/stages/two/model"), model(whole / "stages/two/model")
    assert saved.keys() == expected.keys()
    assert all(torch.allclose(saved[key], expected[key], rtol=0, atol=WEIGHTS) for key in expected)
