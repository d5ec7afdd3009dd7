"""An interrupted stage goes on with another number of processes: the same rows in each step, each of them once."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from trl import SFTTrainer

from ctxkit.errors import DiskError, ExitCode, ResumeError
from ctxkit.rundir import read_json
from ctxkit.train import checkpoints, run, universal
from tests.integration.forking import Server, server
from tests.integration.going_on import ALL, ONE, interrupted, recorded, rows
from tests.integration.micro import losses
from tests.integration.test_parallel import LAYOUTS, written

pytestmark = [pytest.mark.torch, pytest.mark.slow]

ROWS = 64
BATCH = ("stages.base.train.per_device_train_batch_size=2", "stages.base.train.gradient_accumulation_steps=4", *ALL)
"""Eight rows a step on one process, so that eight steps are one pass over the 64 rows of the stage."""
ON_TWO = (*BATCH[:1], "stages.base.train.gradient_accumulation_steps=2", *ALL)
KINDS: dict[str, tuple[str, ...]] = {
    "second epoch": ("stages.base.train.max_steps=14",),
    "curriculum": (
        "stages.base.curriculum={kind: phases, phases: [{name: a, steps: 3}, {name: b, epochs: 1}]}",
        "stages.base.train.max_steps=-1",
    ),
    "packing": (
        "stages.base.data.packing={}",
        "stages.base.data.sources=[{kind: repeats, documents: 128, length: 15, min_period: 2, max_period: 7}]",
        "stages.base.data.chunker.length=32",
    ),
}


@pytest.fixture(scope="module")
def forked() -> Iterator[Server]:
    """A server of runs that write down the rows of each step."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CTXKIT_TESTS_RECORD_ROWS", "1")
        with server("tests.integration.going_on") as made:
            yield made


def ran(forked: Server, directory: Path, sets: tuple[str, ...], world: int) -> list[int]:
    """Run the stage on some processes; return how they ended."""
    (directory.parent / "one.yaml").write_text(ONE, encoding="utf-8")
    forked.start(directory.parent / "one.yaml", directory, sets, world)
    return forked.ended()


@pytest.mark.parametrize("kind", list(KINDS))
def test_rows_of_each_step_are_the_same(
    kind: str, forked: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On two processes to step 4 or 10, then on one: rows and losses are those of one process all along."""
    step = 10 if kind == "second epoch" else 4
    assert ran(forked, tmp_path / "alone", (*BATCH, *KINDS[kind]), 1) == [0]
    assert ran(forked, tmp_path / "two", (*ON_TWO, *KINDS[kind]), 2) == [0, 0]
    two = interrupted(tmp_path / "two", tmp_path / "other", step)
    with monkeypatch.context() as patch:
        patch.setattr(SFTTrainer, "training_step", recorded)
        run(tmp_path / "one.yaml", two, (*ON_TWO, *KINDS[kind]))
    said = capsys.readouterr().err
    assert "gradient_accumulation_steps is 4, not 2: with 1 process that keeps the 8 rows of a step" in said
    assert "random numbers begin anew from the seed" in said
    expected = rows(tmp_path / "alone")
    assert rows(two) == rows(tmp_path / "two") == expected
    # Packed rows of a micro-batch are joined into one.
    assert {sum(each.values()) for each in expected.values()} == {4 if kind == "packing" else 8}
    begun = read_json(two / "stages/base/checkpoints/begun.json")
    assert (begun["num_processes"], begun["rows_per_step"]) == (1, 8)
    alone = losses(tmp_path / "alone")
    assert losses(two) == pytest.approx(alone, rel=1e-4)


def test_one_process_becomes_two_and_its_batch_smaller(forked: Server, tmp_path: Path) -> None:
    """The accumulation follows both: in the other direction too, and where memory was short."""
    assert ran(forked, tmp_path / "alone", BATCH, 1) == [0]
    smaller = (*BATCH, "stages.base.train.per_device_train_batch_size=1")
    for name, sets, world in (("two", BATCH, 2), ("smaller", smaller, 1)):
        other = interrupted(tmp_path / "alone", tmp_path / name, 4)
        assert ran(forked, other, sets, world) == [0] * world
        assert rows(other) == rows(tmp_path / "alone")
        assert losses(other) == pytest.approx(losses(tmp_path / "alone"), rel=1e-4)


def test_processes_that_cannot_keep_the_rows(forked: Server, tmp_path: Path) -> None:
    """Numbers and ways out are named, nothing is trained, and whoever allows the drift goes on by steps."""
    odd = (*ALL, "stages.base.train.max_steps=4")
    assert ran(forked, tmp_path / "alone", ("stages.base.train.per_device_train_batch_size=3", *odd), 1) == [0]
    one = interrupted(tmp_path / "alone", tmp_path / "other", 2)
    assert set(ran(forked, one, ("stages.base.train.per_device_train_batch_size=3", *odd), 2)) == {ExitCode.RESUME}
    said = read_json(one / "run.json")["error"]
    assert "a step of stage base had 3 rows, and 2 processes with 3 each have 6: rows would differ" in said
    assert "start 1 process, or" in said
    assert "--allow-drift" in said
    assert "checkpoint-4" not in [path.name for path in (one / "stages/base/checkpoints").iterdir()]


def test_fsdp_goes_on_with_other_processes(forks: Server, start: Path, tmp_path: Path) -> None:
    """Its checkpoints hold the whole optimizer: two processes save, four go on, and the losses stay."""
    sets = ("train.gradient_accumulation_steps=2", "train.save_total_limit=null")
    recipe = written(tmp_path, start, LAYOUTS["fsdp"], 1)
    forks.start(recipe, tmp_path / "two", sets, 2)
    assert forks.ended() == [ExitCode.DONE] * 2
    other = interrupted(tmp_path / "two", tmp_path / "other", 4, "two")
    forks.start(recipe, other, sets, 4)
    assert forks.ended() == [ExitCode.DONE] * 4
    assert read_json(other / "stages/two/checkpoints/begun.json")["num_processes"] == 4
    assert losses(other) == pytest.approx(losses(tmp_path / "two"), rel=1e-5)


@pytest.mark.skipif(importlib.util.find_spec("deepspeed") is None, reason="deepspeed is not installed")
@pytest.mark.parametrize("name", ["zero2", "zero3"])
def test_deepspeed_goes_on_with_other_processes(name: str, forks: Server, start: Path, tmp_path: Path) -> None:
    """Two processes save, one goes on, then two again: losses are those of two that nothing happened to."""
    # Norms do not decay: each group of the optimizer needs its own state.
    sets = ("train.gradient_accumulation_steps=2", "train.save_total_limit=null", "train.weight_decay=0.5")
    recipe = written(tmp_path, start, LAYOUTS[name], 1)
    forks.start(recipe, tmp_path / "two", sets, 2)
    assert forks.ended() == [ExitCode.DONE] * 2
    run, before = tmp_path / "two", losses(tmp_path / "two")
    for world, step in ((1, 4), (2, 6)):
        run = interrupted(run, tmp_path / f"{step}", step, "two")
        folder = run / "stages/two/checkpoints"
        left = folder / "universal-checkpoint-2/global_step2/zero"
        left.mkdir(parents=True)  # of an attempt that was killed in between
        forks.start(recipe, run, sets, world)
        assert forks.ended() == [ExitCode.DONE] * world
        assert not list(folder.glob("universal-*"))
        assert not checkpoints.broken(folder / f"checkpoint-{step}")
        assert checkpoints.random_states(folder / "checkpoint-8") == world
        assert losses(run) == pytest.approx(before, rel=1e-5)


def unconverted(folder: Path) -> Path:
    """Return a checkpoint with a file that DeepSpeed cannot convert."""
    shard = folder / "checkpoint-4/global_step4/zero_pp_rank_0_mp_rank_00_optim_states.pt"
    shard.parent.mkdir(parents=True)
    shard.write_bytes(bytes(100))
    (folder / "checkpoint-4/latest").write_text("global_step4", encoding="utf-8")
    return folder / "checkpoint-4"


def test_what_cannot_be_converted_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the reason and the way out, nothing being left behind, as for an optimizer without Adam's moments."""

    def fails(source: Path, target: Path) -> None:
        target.mkdir()
        raise KeyError("exp_avg")

    monkeypatch.setattr(universal, "_convert", fails)
    with pytest.raises(ResumeError, match=r"made with 2 processes, and now there are 3.*exp_avg") as raised:
        universal.convert(unconverted(tmp_path), 2, 3)
    assert raised.value.hint == "start 2 processes"
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-4"]


def test_nothing_is_converted_where_there_is_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files once loose and once put together are asked for before any is written."""
    usage = shutil.disk_usage(tmp_path)._replace(free=249)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DiskError, match="to convert it for another number of processes"):
        universal.convert(unconverted(tmp_path), 2, 3)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-4"]
