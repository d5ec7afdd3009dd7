"""Every parallel layout on two processes trains what one process trains, saves it whole, and goes on after a kill.

gloo stands in for NCCL, and `shims.py` for what accelerate keeps for GPUs: what is shown is that the numbers are right,
never speed or memory. Losses and gradient norms are those of one process within float32's rounding.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import load_peft_weights
from transformers import AutoModelForCausalLM

from ctxkit.errors import ExitCode
from tests.integration.forking import Server
from tests.integration.micro import DATA, HEAD

pytestmark = [pytest.mark.torch, pytest.mark.slow]

TWO = f"""\
name: two
model: {{name_or_path: START}}
{HEAD[HEAD.index("train:", HEAD.index("vocab_size")) :]}\
  max_steps: 8
{DATA}"""
LORA = {"r": 4, "target_modules": ["q_proj", "v_proj"]}
ZERO3: dict[str, Any] = {"deepspeed": "zero3"}
FSDP: dict[str, Any] = {"fsdp": True}
LAYOUTS: dict[str, dict[str, Any]] = {
    "ddp": {"launch": {}},
    "zero2": {"launch": {"deepspeed": "zero2"}},
    "zero3": {"launch": ZERO3},
    "zero3-lora": {"launch": ZERO3, "adapter": LORA},
    "fsdp": {"launch": FSDP},
    "fsdp-lora": {"launch": FSDP, "adapter": LORA},
    "cp": {"launch": {**FSDP, "parallelism_config": {"cp_size": 2}}},
    "sp": {"launch": {**ZERO3, "parallelism_config": {"sp_size": 2}}, "sets": ["train.gradient_accumulation_steps=2"]},
}
ROUNDING = 2e-5
"""How much a loss or a gradient norm may differ, as a part of it: the same numbers, summed in another order."""
WEIGHTS = 1e-4
"""How much a weight may differ after eight steps of Adam with a rate of 0.01."""


def written(folder: Path, start: Path, layout: dict[str, Any], batch: int) -> Path:
    """Write a recipe with a layout and return it."""
    text = TWO.replace("START", str(start)).replace("batch_size: 4", f"batch_size: {batch}")
    recipe = folder / "two.yaml"
    keys = {"launch": {"num_processes": 2, **layout.get("launch", {})}, "adapter": layout.get("adapter")}
    recipe.write_text(text + "".join(f"{key}: {json.dumps(value)}\n" for key, value in keys.items()), "utf-8")
    return recipe


@pytest.fixture(scope="module")
def one(forks: Server, start: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The runs of one process: all weights, and an adapter."""
    runs = {}
    for name, section in {"": {}, "lora": {"adapter": LORA}}.items():
        folder = tmp_path_factory.mktemp(f"one{name}")
        forks.start(written(folder, start, section, 4), folder / "run")
        assert forks.ended() == [ExitCode.DONE]
        runs[name] = folder / "run"
    return runs


def steps(run: Path) -> dict[int, tuple[float, float]]:
    """Return loss and gradient norm by step."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: (line["loss"], line["grad_norm"]) for line in lines if "loss" in line}


def model(folder: Path) -> dict[str, torch.Tensor]:
    """Return the weights of a saved model, as it is loaded; or those of an adapter."""
    if (folder / "adapter_config.json").exists():
        return load_peft_weights(str(folder), device="cpu")
    loaded = AutoModelForCausalLM.from_pretrained(folder)
    return {name: weight.detach() for name, weight in loaded.named_parameters()}


def assert_alike(found: dict[int, tuple[float, float]], wanted: dict[int, tuple[float, float]]) -> None:
    """Compare losses and gradient norms of every step."""
    assert found.keys() == wanted.keys()
    assert all(found[step] == pytest.approx(wanted[step], rel=ROUNDING) for step in wanted)


@pytest.mark.parametrize("name", LAYOUTS)
def test_two_processes_are_one(name: str, forks: Server, start: Path, one: dict[str, Path], tmp_path: Path) -> None:
    """Killed in the second epoch and started again, two processes log and save what one process does in one go."""
    layout = LAYOUTS[name]
    if "deepspeed" in layout["launch"] and importlib.util.find_spec("deepspeed") is None:
        pytest.skip("deepspeed is not installed")
    recipe, run = written(tmp_path, start, layout, 4 if name == "cp" else 2), tmp_path / "run"
    sealed = run / "stages/two/checkpoints/checkpoint-6/ctxkit.json"
    pids = forks.start(recipe, run, layout.get("sets", ()), world=2)
    forks.killed(pids, sealed.exists)
    assert not (run / "stages/two/model").exists()
    forks.start(recipe, run, layout.get("sets", ()), world=2)
    assert forks.ended() == [ExitCode.DONE, ExitCode.DONE]
    whole = one["lora" if "adapter" in layout else ""]
    assert_alike(steps(run), steps(whole))
    saved, expected = model(run / "stages/two/model"), model(whole / "stages/two/model")
    assert saved.keys() == expected.keys()
    assert all(torch.allclose(saved[key], expected[key], rtol=0, atol=WEIGHTS) for key in expected)


def test_documents_of_a_shared_row_do_not_see_one_another(forks: Server, start: Path, tmp_path: Path) -> None:
    """Packed rows that two processes share, with a stand-in for the flash kernel, train as with the mask of sdpa."""
    if importlib.util.find_spec("deepspeed") is None:
        pytest.skip("deepspeed is not installed")
    runs = []
    for world, layout in enumerate(({}, LAYOUTS["sp"]), start=1):
        folder = tmp_path / str(world)
        folder.mkdir()
        recipe = written(folder, start, layout, 1)
        # Ten rows, of which most hold two documents and padding.
        sets = ["data.packing.length=54", "train.max_steps=6", "train.gradient_accumulation_steps=2"]
        flash = [] if world == 1 else ["model.attn_implementation=flash_attention_2"]
        forks.start(recipe, folder / "run", [*sets, *flash], world=world)
        assert forks.ended() == [ExitCode.DONE] * world
        runs.append(steps(folder / "run"))
    assert_alike(*runs)


def test_an_adapter_in_16_bits_trains_under_zero3(forks: Server, start: Path, tmp_path: Path) -> None:
    """A norm that is trained beside LoRA, in bf16: ZeRO-3 takes the steps of one process, within bf16's rounding."""
    if importlib.util.find_spec("deepspeed") is None:
        pytest.skip("deepspeed is not installed")
    adapter, runs = {**LORA, "modules_to_save": ["norm"]}, []
    for world, launch in enumerate(({}, ZERO3), start=1):
        folder = tmp_path / str(world)
        folder.mkdir()
        recipe = written(folder, start, {"launch": launch, "adapter": adapter}, 4 // world)
        sets = ["train.bf16=true", "train.use_cpu=true", "model.dtype=bfloat16", "train.max_steps=4"]
        forks.start(recipe, folder / "run", sets, world=world)
        assert forks.ended() == [ExitCode.DONE] * world
        runs.append(steps(folder / "run"))
    assert runs[0].keys() == runs[1].keys()
    assert all(runs[1][step] == pytest.approx(runs[0][step], rel=1e-2) for step in runs[0])
