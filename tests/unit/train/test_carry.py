"""The optimizer's state goes from stage to stage, or the reason is said why not."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import TrainerControl, TrainerState

from ctxkit.errors import CtxkitError, ExitCode
from ctxkit.train import checkpoints
from ctxkit.train.carry import CarryOptimizer

NOWHERE = SimpleNamespace(deepspeed=None, fsdp=[])


def stepped(seed: int, rate: float, *sizes: int) -> torch.optim.AdamW:
    """Return an optimizer of weights of some sizes after three steps."""
    generator = torch.Generator().manual_seed(seed)
    weights = [torch.nn.Parameter(torch.rand(size, generator=generator)) for size in sizes]
    optimizer = torch.optim.AdamW(weights, lr=rate)
    for _ in range(3):
        for weight in weights:
            weight.grad = torch.rand(weight.shape, generator=generator)
        optimizer.step()
    return optimizer


def saved(folder: Path, optimizer: torch.optim.Optimizer) -> Path:
    """Save an optimizer as the Trainer does, and seal the checkpoint."""
    checkpoint = folder / "checkpoint-3"
    checkpoint.mkdir(parents=True)
    torch.save(optimizer.state_dict(), checkpoint / "optimizer.pt")
    checkpoints.seal(checkpoint, 3)
    return checkpoint


def begin(folder: Path, optimizer: Any, args: Any = NOWHERE, step: int = 0) -> None:
    """Begin a training with an optimizer."""
    callback = CarryOptimizer("before", folder)
    callback.on_train_begin(args, TrainerState(global_step=step), TrainerControl(), optimizer=optimizer)


def test_moments_go_on_and_rates_do_not(tmp_path: Path) -> None:
    """The next step is the one that the old optimizer would have made, at the new learning rate."""
    before, after = stepped(0, 0.1, 4, 3), stepped(1, 0.02, 4, 3)
    begin(saved(tmp_path, before), after)
    pairs = list(zip(before.param_groups[0]["params"], after.param_groups[0]["params"], strict=True))
    before.param_groups[0]["lr"] = 0.02
    for old, new in pairs:
        new.data.copy_(old.data)
        new.grad = old.grad
    before.step()
    after.step()
    assert all(torch.equal(old, new) for old, new in pairs)
    assert after.state[pairs[0][1]]["step"] == 4
    assert after.param_groups[0]["lr"] == 0.02


def test_a_stage_that_goes_on_keeps_its_own(tmp_path: Path) -> None:
    """After a kill the state is that of the stage's own checkpoint."""
    after = stepped(1, 0.02, 4)
    kept = after.state_dict()["state"][0]["exp_avg"].clone()
    begin(saved(tmp_path, stepped(0, 0.1, 4)), after, step=2)
    assert torch.equal(after.state_dict()["state"][0]["exp_avg"], kept)


@pytest.mark.parametrize(
    "args", [SimpleNamespace(deepspeed="zero2.json", fsdp=[]), SimpleNamespace(deepspeed=None, fsdp=["x"])]
)
def test_shards_are_refused(args: Any, tmp_path: Path) -> None:
    """What is kept in shards is not read."""
    with pytest.raises(CtxkitError, match="shards") as caught:
        begin(saved(tmp_path, stepped(0, 0.1, 4)), stepped(1, 0.02, 4), args)
    assert caught.value.exit_code == ExitCode.RECIPE


def test_other_weights_are_refused(tmp_path: Path) -> None:
    """Moments of other weights mean nothing."""
    folder = saved(tmp_path, stepped(0, 0.1, 4))
    for other in ((4, 3), (5,)):
        with pytest.raises(CtxkitError, match="trained other weights"):
            begin(folder, stepped(1, 0.02, *other))


def test_no_state_is_said(tmp_path: Path) -> None:
    """Without a whole checkpoint there is nothing to carry."""
    with pytest.raises(CtxkitError, match="is not whole or not there"):
        begin(tmp_path / "checkpoint-3", stepped(1, 0.02, 4))
    folder = saved(tmp_path, stepped(0, 0.1, 4))
    (folder / "optimizer.pt").write_bytes(b"cut")
    with pytest.raises(CtxkitError, match="is not whole or not there"):
        begin(folder, stepped(1, 0.02, 4))
