"""Every way to start a run, and several processes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ctxkit.errors import ExitCode
from ctxkit.train import run
from tests.integration.conftest import ROOT
from tests.integration.micro import losses

pytestmark = [pytest.mark.torch, pytest.mark.slow]

BIN = Path(sys.executable).parent
SHORT = ("--set", "stages.control.train.max_steps=1", "--set", "stages.yarn.train.max_steps=1")


@pytest.mark.parametrize(
    ("launcher", "from_root"),
    [
        ((str(BIN / "accelerate"), "launch", "ctxkit"), True),
        ((str(BIN / "accelerate"), "launch", "-m", "ctxkit"), False),
        ((str(BIN / "ctxkit"),), False),
    ],
    ids=["accelerate-folder", "accelerate-module", "command"],
)
def test_started_as_the_readme_says(
    launcher: tuple[str, ...], from_root: bool, command: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    """Each documented line runs the recipe to its end; only the folder form needs the repository root."""
    process = command(*SHORT, launcher=launcher, cwd=ROOT if from_root else tmp_path)
    out, said = process.communicate(timeout=200)
    assert process.returncode == ExitCode.DONE, said
    assert "Passkey accuracy" in out
    assert (tmp_path / "run/report.html").exists()


def test_two_processes_train_one_model(
    command: Callable[..., subprocess.Popen[str]], tmp_path: Path, recipe: Path
) -> None:
    """Two processes of batch 2 log the losses of one process of batch 4; the first speaks, data is prepared once."""
    torchrun = (str(BIN / "torchrun"), "--nproc-per-node", "2", "ctxkit")
    process = command("--set", "train.per_device_train_batch_size=2", launcher=torchrun, OMP_NUM_THREADS="1")
    out, said = process.communicate(timeout=280)
    assert process.returncode == ExitCode.DONE, said
    assert said.count("stage base: 64 rows") == 1
    assert out.count("model:  ") == 1
    one, two = losses(run(recipe, tmp_path / "one").path), losses(tmp_path / "run")
    assert one.keys() == two.keys()
    # The same rows in each step, summed in another order.
    assert all(abs(one[key] - two[key]) < 2e-3 * one[key] for key in one)


def test_all_processes_refuse_alike(command: Callable[..., subprocess.Popen[str]]) -> None:
    """A bad recipe under a launcher is said once, and no process hangs."""
    torchrun = (str(BIN / "torchrun"), "--nproc-per-node", "2", "ctxkit")
    process = command("--set", "train.learning_rte=1", launcher=torchrun)
    _, said = process.communicate(timeout=100)
    assert process.returncode != ExitCode.DONE
    assert said.count("did you mean `learning_rate`?") == 1
