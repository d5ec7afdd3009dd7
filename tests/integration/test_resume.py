"""Killed at any moment, a run goes on where it was, and ends as if nothing had happened."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ctxkit.errors import CtxkitError, ExitCode, ResumeError
from ctxkit.train import checkpoints, run
from tests.integration.micro import RECIPE, losses, weights

pytestmark = [pytest.mark.torch, pytest.mark.slow]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a run that nothing happened to."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    recipe = folder / "micro.yaml"
    recipe.write_text(RECIPE, encoding="utf-8")
    return run(recipe, folder / "run").path


def assert_same(directory: Path, other: Path) -> None:
    """Compare every logged loss, every final weight and every measurement of two runs, to the last bit."""
    assert losses(directory) == losses(other)
    for stage in ("base", "control", "yarn"):
        ours, theirs = weights(directory / f"stages/{stage}/model"), weights(other / f"stages/{stage}/model")
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
        for report in (other / "evals" / stage).glob("*.json"):
            assert (directory / "evals" / stage / report.name).read_text() == report.read_text()


def wait_until(there: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Wait for something that a process does; fail if it ends before."""
    deadline = time.monotonic() + 120
    while not there():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.002)


@pytest.mark.parametrize("moment", ["stages/base/checkpoints/checkpoint-4", "stages/control/checkpoints", "evals/base"])
def test_killed_run_continues_exactly(
    moment: str, command: Callable[..., subprocess.Popen[str]], recipe: Path, tmp_path: Path, uninterrupted: Path
) -> None:
    """SIGKILL while training, between stages, or while measuring: the same command ends with the same numbers."""
    process = command()
    wait_until((tmp_path / "run" / moment).exists, process)
    process.kill()
    process.communicate()
    assert not (tmp_path / "run/stages/yarn/stage.json").exists()
    assert_same(run(recipe, tmp_path / "run").path, uninterrupted)


def test_sigterm_saves_the_step_and_the_rerun_is_exact(
    command: Callable[..., subprocess.Popen[str]], recipe: Path, tmp_path: Path
) -> None:
    """SIGTERM in training, even sent twice, saves at the end of the step and exits with 75; the rerun is exact."""
    longer = ["stages.base.train.max_steps=400", "stages.base.train.save_steps=1000", "evals=[]"]
    sets = [word for assignment in longer for word in ("--set", assignment)]
    process = command(*sets)
    wait_until((tmp_path / "run/metrics.jsonl").exists, process)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == ExitCode.PREEMPTED, said
    assert "type the same command" in said
    assert "Traceback" not in said
    status = json.loads((tmp_path / "run/run.json").read_text())
    assert (status["status"], status["exit_code"]) == ("preempted", 75)
    newest, rejected = checkpoints.newest(tmp_path / "run/stages/base/checkpoints")
    assert newest is not None
    assert not rejected
    run(recipe, tmp_path / "run", longer)
    assert_same(tmp_path / "run", run(recipe, tmp_path / "other", longer).path)


def test_two_processes_told_to_stop_save_one_checkpoint(
    command: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    """A scheduler that signals the launcher and every process still gets a whole checkpoint."""
    torchrun = (str(Path(sys.executable).parent / "torchrun"), "--nproc-per-node", "2", "ctxkit")
    process = command(
        "--set", "stages.base.train.max_steps=4000", "--set", "stages.base.train.save_steps=10000",
        launcher=torchrun, OMP_NUM_THREADS="1",
    )  # fmt: skip
    wait_until((tmp_path / "run/metrics.jsonl").exists, process)
    workers = subprocess.run(
        ["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True
    ).stdout.split()
    for pid in (process.pid, *map(int, workers)):
        os.kill(pid, signal.SIGTERM)
    process.communicate(timeout=100)
    newest, rejected = checkpoints.newest(tmp_path / "run/stages/base/checkpoints")
    assert newest is not None
    assert not rejected


def test_sigint_before_training_ends_at_once(command: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    """Ctrl-C while data is prepared exits with 130 and leaves no data that looks whole."""
    process = command("--set", "stages.base.data.sources.0.documents=5000000")
    wait_until(lambda: any((tmp_path / "run").glob("data/*.tmp-new")), process)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == ExitCode.INTERRUPTED
    assert "Traceback" not in said
    assert not list((tmp_path / "run/data").glob("*/manifest.json"))


def copy_to_step_6(uninterrupted: Path, directory: Path) -> Path:
    """Make a run directory as it was when stage base had saved its checkpoint 8 and nothing more."""
    shutil.copytree(uninterrupted, directory)
    for path in ("stages/control", "stages/yarn", "stages/base/model", "evals"):
        shutil.rmtree(directory / path)
    for name in ("stage.json", "finished"):
        (directory / "stages/base" / name).unlink()
    return directory / "stages/base/checkpoints"


def test_model_saved_but_not_recorded_is_saved_again(tmp_path: Path, uninterrupted: Path) -> None:
    """Killed between saving a model and recording it, the stage ends from its checkpoint with the same weights."""
    shutil.copytree(uninterrupted, tmp_path / "run")
    for name in ("stage.json", "finished"):
        (tmp_path / "run/stages/base" / name).unlink()
    (tmp_path / "run/stages/base/model/model.safetensors").write_bytes(b"cut short")
    json_status = json.loads((tmp_path / "run/run.json").read_text())
    (tmp_path / "run/run.json").write_text(json.dumps({**json_status, "status": "running"}))
    recipe = tmp_path / "micro.yaml"
    recipe.write_text(RECIPE, encoding="utf-8")
    assert_same(run(recipe, tmp_path / "run").path, uninterrupted)


def test_other_number_of_processes_is_refused(tmp_path: Path, uninterrupted: Path) -> None:
    """A stage begun with two processes is not continued by one, because other rows would follow."""
    folder = copy_to_step_6(uninterrupted, tmp_path / "run")
    (folder / "begun.json").write_text('{"num_processes": 2}')
    recipe = tmp_path / "micro.yaml"
    recipe.write_text(RECIPE, encoding="utf-8")
    with pytest.raises(ResumeError, match="2 processes, and now there are 1"):
        run(recipe, tmp_path / "run")


def test_two_processes_never_share_a_run_directory(tmp_path: Path, recipe: Path) -> None:
    """While one process holds a run directory, another is refused."""
    from ctxkit.rundir import RunDirectory

    with RunDirectory(tmp_path / "run").locked(), pytest.raises(CtxkitError, match="another process"):
        run(recipe, tmp_path / "run")
