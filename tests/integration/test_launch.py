"""Every way to start a run, and several processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
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


def test_two_processes_train_one_model(tmp_path: Path, recipe: Path) -> None:
    """Stopped by SIGTERM and typed again, two processes of batch 2 log the losses of one process of batch 4.

    `ctxkit launch` ends with the exit code of the run and not with that of the launcher. The first process speaks, and
    data is prepared once.
    """
    line = [str(BIN / "ctxkit"), "launch", str(recipe), "--num-processes", "2", "--run-dir", str(tmp_path / "run")]
    line += ["--set", "train.per_device_train_batch_size=2"]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(line, env=environment, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None and not list(tmp_path.glob("run/stages/base/checkpoints/checkpoint-*")):
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        said = process.communicate(timeout=100)[1]
    assert process.returncode == ExitCode.PREEMPTED, said
    assert said.count("stage base: 64 rows") == 1
    done = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == ExitCode.DONE, done.stderr
    assert done.stderr.count("continuing from checkpoint-") == 1
    assert done.stdout.count("model:  ") == 1
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
