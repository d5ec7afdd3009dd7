"""Killed at any moment, a run goes on where it was, and ends as if nothing had happened."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import get_scheduler

from ctxkit.errors import CtxkitError, ExitCode, ResumeError
from ctxkit.resuming import Resume
from ctxkit.rundir import RunDirectory
from ctxkit.train import checkpoints, run
from tests.integration.going_on import ALL, ONE, interrupted, logged
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


def assert_same_one(directory: Path, other: Path, lost: Collection[int] = ()) -> None:
    """Compare the losses and the final weights of two runs of one stage, but for the losses of some steps."""
    ours, theirs = weights(directory / "stages/base/model"), weights(other / "stages/base/model")
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    theirs = {key: loss for key, loss in losses(other).items() if key[1] not in lost}
    assert losses(directory).keys() == theirs.keys()
    if not lost:
        assert losses(directory) == theirs


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


def test_two_processes_never_share_a_run_directory(tmp_path: Path, recipe: Path) -> None:
    """While one process holds a run directory, another is refused."""
    with RunDirectory(tmp_path / "run").locked(), pytest.raises(CtxkitError, match="another process"):
        run(recipe, tmp_path / "run")


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a finished run of one stage, with the checkpoints 2, 4, 6 and 8."""
    folder = tmp_path_factory.mktemp("one")
    (folder / "one.yaml").write_text(ONE, encoding="utf-8")
    return run(folder / "one.yaml", folder / "run", ALL).path


@pytest.fixture
def at_4(one: Path, tmp_path: Path) -> Path:
    """The same, interrupted at step 4."""
    (tmp_path / "one.yaml").write_text(ONE, encoding="utf-8")
    return interrupted(one, tmp_path / "run", 4)


def again(directory: Path, *sets: str, **asked: Any) -> Path:
    """Type the command again, with other values and something said about going on."""
    return run(directory.parent / "one.yaml", directory, (*ALL, *sets), Resume(**asked)).path


def rates(directory: Path, steps: int, rate: float, kind: str = "linear", warmup: int = 0) -> dict[int, float]:
    """Return what transformers makes of a schedule: the learning rate of each logged step of a run."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=rate)
    scheduler = get_scheduler(kind, optimizer, warmup, steps)
    made = {}
    for step in range(1, steps + 1):
        made[step] = scheduler.get_last_lr()[0]
        optimizer.step()
        scheduler.step()
    return {step: made[step] for step in logged(directory, "learning_rate")}


NEW = ("train.learning_rate=0.003", "train.lr_scheduler_type=cosine", "train.warmup_steps=3", "train.weight_decay=0.1")


def test_changed_schedule_asks_what_is_meant(at_4: Path) -> None:
    """Transformers would ignore it; here nothing happens until somebody chose, and the message says how."""
    before = {path: path.stat().st_mtime_ns for path in at_4.rglob("*")}
    with pytest.raises(ResumeError, match=r"learning_rate: 0\.01 -> 0\.003") as caught:
        again(at_4, *NEW)
    assert "--on-change keep" in caught.value.hint
    assert "--on-change reset" in caught.value.hint
    assert {path: before[path] for path in before} == {path: path.stat().st_mtime_ns for path in before}


def test_the_schedule_of_the_checkpoint_is_kept(at_4: Path, one: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With `keep` the run ends as if nothing had been changed, and the directory says so."""
    assert_same_one(again(at_4, *NEW, on_change="keep"), one)
    assert "goes on with the learning_rate, lr_scheduler_type, warmup_steps, weight_decay" in capsys.readouterr().err
    assert "learning_rate: 0.01" in (at_4 / "recipe.yaml").read_text()


def test_a_new_schedule_holds_from_the_checkpoint_on(at_4: Path, one: Path) -> None:
    """With `reset` every later learning rate is what transformers makes of the new schedule at that step."""
    again(at_4, *NEW, on_change="reset")
    old, new = rates(one, 8, 0.01), rates(one, 8, 0.003, "cosine", 3)
    assert logged(at_4, "learning_rate") == pytest.approx({step: (old if step <= 4 else new)[step] for step in old})
    state = torch.load(at_4 / "stages/base/checkpoints/checkpoint-6/optimizer.pt", weights_only=True)
    assert [group["weight_decay"] for group in state["param_groups"]] == [0.1, 0.0]
    assert state["state"][0]["step"] == 6  # the moments went on


def test_a_new_schedule_survives_a_kill(at_4: Path, one: Path) -> None:
    """Killed before its first checkpoint, or after it, the attempt behind needs no word to end the same."""
    again(at_4, *NEW, on_change="reset")
    for step in (4, 6):
        repeated = interrupted(at_4, at_4.parent / f"after-{step}", step)
        assert_same_one(again(repeated, *NEW), at_4)
    assert losses(at_4) != losses(one)


def test_another_optimizer_begins_fresh(at_4: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The moments of AdamW are none of Adafactor's."""
    again(at_4, "train.optim=adafactor", on_change="reset")
    assert "begins without what the one before it had gathered" in capsys.readouterr().err
    state = torch.load(at_4 / "stages/base/checkpoints/checkpoint-8/optimizer.pt", weights_only=True)
    assert state["state"][0]["step"] == 4
    assert "exp_avg_sq_row" in state["state"][0]


def test_more_steps(at_4: Path, one: Path) -> None:
    """A longer stage goes on along the longer schedule, to its new end."""
    again(at_4, "stages.base.train.max_steps=12", on_change="reset")
    expected = {step: rates(one, 8, 0.01)[step] for step in range(1, 5)} | {
        step: rate for step, rate in rates(at_4, 12, 0.01).items() if step > 4
    }
    assert logged(at_4, "learning_rate") == pytest.approx(expected)


def test_a_finished_stage_stays(one: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A schedule changed behind the end of a stage changes nothing, and that is said."""
    (tmp_path / "one.yaml").write_text(ONE, encoding="utf-8")
    shutil.copytree(one, tmp_path / "run")
    again(tmp_path / "run", *NEW, on_change="reset")
    assert "stage base is finished; it stays as it was trained" in capsys.readouterr().err
    assert_same_one(tmp_path / "run", one)


def test_drift_is_allowed_and_recorded(at_4: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Other data goes on when that is allowed; `run.json` names what drifted and from which step."""
    other = "stages.base.data.sources.0.documents=71"
    with pytest.raises(ResumeError, match="documents: 64 -> 71") as caught:
        again(at_4, other)
    assert caught.value.exit_code == ExitCode.RESUME
    again(at_4, other, allow_drift=True)
    assert "from step 4, as --allow-drift says" in capsys.readouterr().err
    first, second = json.loads((at_4 / "run.json").read_text())["drift"]
    assert first["from_steps"] == second["from_steps"] == {"base": 4}
    assert first["changes"] == ["stages.base.data.sources.0.documents: 64 -> 71"]
    assert "other data" in second["changes"][0]
    assert max(logged(at_4, "loss")) == 8
    assert "Drifted, as was allowed: stage base from step 4" in (at_4 / "report.html").read_text(encoding="utf-8")


def test_a_stage_that_has_not_begun_may_change(tmp_path: Path, uninterrupted: Path) -> None:
    """What nothing was trained by is no drift: a stage that ran out of memory at its start gets another batch."""
    shutil.copytree(uninterrupted, tmp_path / "run")
    for path in ("stages/yarn", "evals/yarn"):
        shutil.rmtree(tmp_path / "run" / path)
    (tmp_path / "micro.yaml").write_text(RECIPE, encoding="utf-8")
    run(
        tmp_path / "micro.yaml",
        tmp_path / "run",
        ["stages.yarn.train.learning_rate=0.002", "stages.yarn.rope.factor=4"],
    )
    record = json.loads((tmp_path / "run/stages/yarn/stage.json").read_text())
    assert record["rope"]["factor"] == 4
    assert "drift" not in json.loads((tmp_path / "run/run.json").read_text())


def test_directory_of_an_older_version(at_4: Path, one: Path) -> None:
    """Keys that a newer version added are at their defaults in the recipe of an older one."""
    recipe = yaml.safe_load((at_4 / "recipe.yaml").read_text())
    for key in ("result", "sweep", "launch"):
        del recipe[key]
    for key in ("callbacks", "optimizer", "parent_adapter"):
        del recipe["stages"][0][key]
    del recipe["stages"][0]["data"]["max_lost"], recipe["stages"][0]["data"]["chunker"]["overlap"]
    (at_4 / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    begun = at_4 / "stages/base/checkpoints/begun.json"
    kept = json.loads(begun.read_text())
    begun.write_text(json.dumps({key: kept[key] for key in ("num_processes", "data")}))
    assert_same_one(again(at_4), one)


def test_default_written_out_is_no_change(at_4: Path, one: Path) -> None:
    """What is TRL's default anyway may be written into the recipe."""
    assert_same_one(again(at_4, "train.weight_decay=0.0", "train.lr_scheduler_type=linear"), one)


def test_free_keys_take_effect(at_4: Path, one: Path) -> None:
    """Transformers would go on by the intervals of the checkpoint; the weights are the same to the last bit."""
    again(at_4, "train.save_steps=100", "train.logging_steps=2", "train.dataloader_num_workers=1")
    saved = {path.name for path in (at_4 / "stages/base/checkpoints").glob("checkpoint-*")}
    assert saved == {"checkpoint-2", "checkpoint-4", "checkpoint-8"}
    assert_same_one(at_4, one, lost={5, 7})


def test_a_checkpoint_that_was_asked_for(one: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The later ones are set aside and not deleted; the run ends as if it had been killed there."""
    (tmp_path / "one.yaml").write_text(ONE, encoding="utf-8")
    for word in ("base/checkpoint-4", str(tmp_path / "run/stages/base/checkpoints/checkpoint-4")):
        interrupted(one, tmp_path / "run", 8)
        assert_same_one(again(tmp_path / "run", where=word), one)
        said = capsys.readouterr().err
        assert "checkpoint-8 is later; it was set aside as later-1-checkpoint-8" in said
        assert "continuing from checkpoint-4" in said
        aside = {path.name for path in (tmp_path / "run/stages/base/checkpoints").glob("later-*")}
        assert aside == {"later-1-checkpoint-8", "later-2-checkpoint-6"}
        shutil.rmtree(tmp_path / "run")


def test_words_about_going_on(at_4: Path, one: Path, tmp_path: Path) -> None:
    """`never` and `must` refuse with exit code 4 and delete nothing; so does a checkpoint that is not there."""
    with pytest.raises(ResumeError, match="holds a run"):
        again(at_4, where="never")
    (tmp_path / "other").mkdir()
    shutil.copy(tmp_path / "one.yaml", tmp_path / "other")
    with pytest.raises(ResumeError, match="holds nothing to go on with"):
        again(tmp_path / "other/run", where="must")
    for word in ("base/checkpoint-7", "nowhere", str(one / "stages/base/checkpoints/checkpoint-4")):
        with pytest.raises(ResumeError, match="is no checkpoint of"):
            again(at_4, where=word)
    os.truncate(at_4 / "stages/base/checkpoints/checkpoint-2/optimizer.pt", 10)
    with pytest.raises(ResumeError, match=r"checkpoint-2 is not whole: optimizer\.pt has 10 bytes"):
        again(at_4, where="base/checkpoint-2")
    assert (at_4 / "stages/base/checkpoints/checkpoint-4").is_dir()
    with pytest.raises(ResumeError, match="stage base is finished"):
        again(again(at_4, where="must"), where="base/checkpoint-4")


def test_must_wants_a_whole_checkpoint(at_4: Path) -> None:
    """A stage whose checkpoints are all damaged does not begin again where `must` was said."""
    for path in at_4.glob("stages/base/checkpoints/checkpoint-*/optimizer.pt"):
        os.truncate(path, 10)
    with pytest.raises(ResumeError, match=r"no checkpoint in .* is whole"):
        again(at_4, where="must")


def test_quick_looks_at_sizes_alone(at_4: Path) -> None:
    """A byte that changed is found by its hash, which `quick` leaves out; a cut file it still finds."""
    newest = at_4 / "stages/base/checkpoints/checkpoint-4"
    content = (newest / "model.safetensors").read_bytes()
    (newest / "model.safetensors").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert "other bytes" in checkpoints.broken(newest)
    assert not checkpoints.broken(newest, quick=True)
    os.truncate(newest / "model.safetensors", 100)
    assert "has 100 bytes" in checkpoints.broken(newest, quick=True)


def test_a_killed_run_is_known(at_4: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A directory that says `running` while nobody holds its lock was left by a kill, and the next attempt says so."""
    directory = RunDirectory(at_4)
    assert directory.killed
    with directory.locked():
        assert not directory.killed
    again(at_4)
    assert "the attempt before this one was killed" in capsys.readouterr().err
    assert not directory.killed
