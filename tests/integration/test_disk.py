"""A disk that is full, may not be written or goes away: exit code 6, nothing half-written, and the run goes on."""

from __future__ import annotations

import errno
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM
from trl import SFTTrainer

from ctxkit.errors import DiskError, ExitCode
from ctxkit.rundir import read_json
from ctxkit.train import checkpoints, disk, run
from tests.integration.micro import RECIPE, losses, weights

pytestmark = [pytest.mark.torch, pytest.mark.slow]

ONE = RECIPE[: RECIPE.index("evals:")] + RECIPE[RECIPE.index("stages:") : RECIPE.index("  - name: control")]


@pytest.fixture
def one(tmp_path: Path) -> Path:
    """A recipe of one stage without evals."""
    (tmp_path / "one.yaml").write_text(ONE, encoding="utf-8")
    return tmp_path / "one.yaml"


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond so many bytes: what is written then fails, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", [60_000, 160_000])
def test_a_write_that_fails_costs_nothing(size: int, one: Path, tmp_path: Path) -> None:
    """Weights (116 kB) or optimizer (233 kB) do not get onto the disk: nothing partial stays, and the run goes on."""
    run(one, tmp_path / "whole")
    with files_of_at_most(size), pytest.raises(DiskError, match="no space is left") as caught:
        run(one, tmp_path / "run")
    assert caught.value.exit_code == ExitCode.DISK
    assert read_json(tmp_path / "run/run.json")["exit_code"] == ExitCode.DISK
    assert not list((tmp_path / "run/stages/base/checkpoints").glob("checkpoint-*"))
    run(one, tmp_path / "run")
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")
    ours, theirs = (weights(tmp_path / name / "stages/base/model") for name in ("run", "whole"))
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_a_full_disk_later_keeps_what_was_saved(one: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full in the save of step 6: the checkpoints before it stay, the partial one does not."""
    saved, calls = torch.save, []

    def full(*arguments: Any, **named: Any) -> Any:
        calls.append(arguments[1])
        if "checkpoint-6" in str(arguments[1]):
            raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534")
        return saved(*arguments, **named)

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(DiskError):
        run(one, tmp_path / "run")
    folder = tmp_path / "run/stages/base/checkpoints"
    assert sorted(path.name for path in folder.glob("checkpoint-*")) == ["checkpoint-2", "checkpoint-4"]
    assert checkpoints.newest(folder) == (folder / "checkpoint-4", [])


def test_a_directory_that_goes_away_is_said(one: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody deletes the run directory while it trains: exit code 6, and no directory that holds half a run."""
    call, left = SFTTrainer.training_step, [4]

    def delete(*arguments: Any, **named: Any) -> Any:
        left[0] -= 1
        if left[0] == 0:
            shutil.rmtree(tmp_path / "run")
        return call(*arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(SFTTrainer, "training_step", delete)
        with pytest.raises(DiskError, match="cannot be written any more"):
            run(one, tmp_path / "run")
    assert run(one, tmp_path / "run").status()["status"] == "done"


@pytest.mark.parametrize("number", sorted(disk.UNWRITABLE))
def test_what_cannot_be_written_is_said(number: int, tmp_path: Path) -> None:
    """A read-only disk, no permission, a stale mount, an error of the device: in the run directory exit code 6."""
    with pytest.raises(DiskError, match="cannot be written any more"), disk.full_disk_said(tmp_path):
        raise OSError(number, "no", str(tmp_path / "metrics.jsonl"))
    with pytest.raises(OSError, match="elsewhere"), disk.full_disk_said(tmp_path):
        raise OSError(number, "no", "/elsewhere/data.txt")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_what_means_a_full_disk(number: int, tmp_path: Path) -> None:
    """No space, a quota, and the largest size of a file, as Python and as safetensors say it; no damaged file."""
    assert disk.no_space(OSError(number, "no"), tmp_path)
    assert disk.no_space(RuntimeError(f"Error while serializing: I/O error: no (os error {number})"), tmp_path)
    assert not disk.no_space(
        RuntimeError("PytorchStreamReader failed reading zip archive: inline_container.cc"), tmp_path
    )


@pytest.mark.parametrize("lora", [False, True])
def test_preflight_asks_for_what_is_written(lora: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three checkpoints and a model, or adapters where there is one: as transformers, peft and torch save them."""
    model: Any = LlamaForCausalLM(
        LlamaConfig(vocab_size=500, hidden_size=64, intermediate_size=128, num_hidden_layers=2)
    )
    if lora:
        model = get_peft_model(model, LoraConfig(r=32, target_modules="all-linear"))
    optimizer = torch.optim.AdamW([each for each in model.parameters() if each.requires_grad])
    model(input_ids=torch.zeros(1, 8, dtype=torch.long), labels=torch.zeros(1, 8, dtype=torch.long)).loss.backward()
    optimizer.step()
    model.save_pretrained(tmp_path / "model")
    torch.save(optimizer.state_dict(), tmp_path / "optimizer.pt")
    saved = next((tmp_path / "model").glob("*.safetensors")).stat().st_size
    states = (tmp_path / "optimizer.pt").stat().st_size
    args = SimpleNamespace(
        output_dir=tmp_path, save_total_limit=2, save_strategy="steps", save_steps=1, max_steps=9, deepspeed=None
    )
    free = (3 * (saved + states) + saved) * disk.MARGIN
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda _: SimpleNamespace(free=free * 1.02))
    disk.preflight(model, cast("Any", args), tmp_path)
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda _: SimpleNamespace(free=free * 0.9))
    with pytest.raises(DiskError, match="the checkpoints of a stage need about"):
        disk.preflight(model, cast("Any", args), tmp_path)


def test_preflight_knows_what_deepspeed_writes() -> None:
    """Weights twice, and three numbers of 32 bits for each trained one; of ZeRO-3, those kept elsewhere count too."""
    layer = torch.nn.Linear(10, 10, bias=False, dtype=torch.bfloat16)
    whole = disk._sizes(layer, cast("Any", SimpleNamespace(deepspeed="zero3")))
    assert whole == (200, 200 + 12 * 100)
    layer.weight.data = torch.empty(0, dtype=torch.bfloat16)
    layer.weight.ds_numel = 100  # type: ignore[attr-defined]
    assert disk._sizes(layer, cast("Any", SimpleNamespace(deepspeed="zero3"))) == whole
