"""A curriculum in a run: the rows that reach the model, the learning rate, and a run that is killed in a phase."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset

from ctxkit.spec import Context, TrainingPlan
from ctxkit.train import run
from ctxkit.train.curriculum import row_table
from ctxkit.train.rows import open_rows
from ctxkit.train.trainer import ScaledTrainer
from ctxkit_curriculum import PhasesOptions
from tests.integration.forking import Server
from tests.integration.micro import RECIPE, losses, weights

pytestmark = [pytest.mark.torch, pytest.mark.slow]

PHASES = {
    "kind": "phases",
    "phases": [
        {"name": "short", "epochs": 2, "most": 16},
        {"name": "long", "epochs": 2, "least": 17, "learning_rate": 0.5},
        {"name": "longer", "epochs": 1, "least": 64, "learning_rate": 0.1, "optional": True},
    ],
}
CURRICULA = f"""\
{RECIPE[: RECIPE.index("evals:")]}\
  eval_strategy: epoch
  gradient_accumulation_steps: 2
  per_device_eval_batch_size: 8
data:
  sources:
    - {{kind: repeats, documents: 20, length: 31}}
    - {{kind: repeats, documents: 12, length: 15, max_period: 10}}
  chunker: {{kind: overlap, length: 32}}
  eval: {{share: 0.2}}
stages:
  - name: base
    curriculum: {json.dumps(PHASES)}
  - name: grown
    data: {{packing: {{}}}}
    curriculum: {{kind: grow, start: 8, multiple: 8, share: 0.5}}
    train: {{max_steps: 6}}
""".replace("per_device_train_batch_size: 4", "per_device_train_batch_size: 2")


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A recipe of two stages with a curriculum each."""
    path = tmp_path / "curricula.yaml"
    path.write_text(CURRICULA, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def seen() -> list[list[list[int]]]:
    """The rows that each call of the model trained on, in the run below."""
    return []


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, seen: list[list[list[int]]]) -> Path:
    """The directory of a run that nothing happened to."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    recipe = folder / "curricula.yaml"
    recipe.write_text(CURRICULA, encoding="utf-8")
    step = ScaledTrainer.training_step

    def recorded(self: Any, model: Any, inputs: dict[str, Any], *rest: Any) -> Any:
        parts = inputs.get("attention_mask")
        rows = inputs["input_ids"].tolist()
        seen.append(
            [row[: int(mask.sum())] for row, mask in zip(rows, parts, strict=True)] if parts is not None else rows
        )
        return step(self, model, inputs, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ScaledTrainer, "training_step", recorded)
        return run(recipe, folder / "run").path


def lines(directory: Path, stage: str) -> list[dict[str, Any]]:
    """Return the lines of metrics of a stage."""
    read = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    return [line for line in read if line["stage"] == stage]


def summaries(directory: Path) -> list[dict[str, Any]]:
    """Return what the metrics say of every phase of all stages."""
    return [
        line["curriculum"] for stage in ("base", "grown") for line in lines(directory, stage) if "curriculum" in line
    ]


def rows_of(directory: Path, stage: str) -> Dataset:
    """Return the rows that a stage was prepared with."""
    prepared = open_rows(directory / "data" / json.loads((directory / "data.json").read_text())["stages"][stage])
    assert prepared is not None
    return prepared.train


def test_model_trains_on_the_rows_of_the_phases(uninterrupted: Path, seen: list[list[list[int]]]) -> None:
    """What reached the model, row by row, is what the curriculum says: two rows a call, two calls a step."""
    rows = rows_of(uninterrupted, "base")
    decide = PhasesOptions(**PHASES).build(Context(seed=3))
    order = [int(row) for phase in decide(row_table(rows), TrainingPlan(4)) for row in phase.order]
    trained = [row for call in seen[: len(order) // 2] for row in call]
    assert trained == [rows[row]["input_ids"].tolist() for row in order]
    assert len(seen) == len(order) // 2 + 6 * 2


def test_learning_rate_is_that_of_the_schedule_times_the_phase(uninterrupted: Path) -> None:
    """TRL's own default is linear: what is left of the steps, times 1 and then 0.5."""
    logged = {line["step"]: line["learning_rate"] for line in lines(uninterrupted, "base") if "learning_rate" in line}
    first, second, third, fourth = [line for line in summaries(uninterrupted) if line["phase"] in ("short", "long")]
    assert (first["learning_rate"], third["learning_rate"]) == (1.0, 0.5)
    assert (second["last_step"], fourth["last_step"]) == (third["first_step"] - 1, len(logged))
    for step, rate in logged.items():
        factor = 1.0 if step <= second["last_step"] else 0.5
        assert rate == pytest.approx(1e-2 * (1 - (step - 1) / len(logged)) * factor)


def test_metrics_and_record_of_the_phases(uninterrupted: Path) -> None:
    """A line for each pass, with validation at its end, and the same in the record; every row accounted for."""
    record = json.loads((uninterrupted / "stages/base/stage.json").read_text())["curriculum"]
    assert record["phases"] == [line for line in summaries(uninterrupted) if not line["phase"].startswith("window")]
    assert [(line["phase"], line["epoch"]) for line in record["phases"]] == [
        ("short", 1), ("short", 2), ("long", 1), ("long", 2),
    ]  # fmt: skip
    assert (record["rows_left_out"], record["rows_cut"]) == (0, 0)
    assert record["rows_served"] == sum(line["examples"] for line in record["phases"]) == 4 * record["steps"]
    for line in record["phases"]:
        losses_of = [
            log["loss"]
            for log in lines(uninterrupted, "base")
            if "loss" in log and line["first_step"] <= log["step"] <= line["last_step"]
        ]
        assert line["train_loss"] == pytest.approx(sum(losses_of) / len(losses_of))
        assert line["eval_loss"] is not None
        assert line["grad_norm"]["min"] <= line["grad_norm"]["mean"] <= line["grad_norm"]["max"]
    evaluated = [log["step"] for log in lines(uninterrupted, "base") if "eval_loss" in log]
    assert evaluated == [line["last_step"] for line in record["phases"]]
    last = json.loads((uninterrupted / "stages/base/stage.json").read_text())
    assert last["tokens"] == sum(line["tokens"] for line in record["phases"])


def test_window_of_each_step(uninterrupted: Path) -> None:
    """8 tokens at first, 16 and 24 on the way, the whole row from half of the steps on."""
    grown = [line for line in summaries(uninterrupted) if line["phase"].startswith("window")]
    assert [(line["window"], line["first_step"], line["last_step"]) for line in grown] == [
        ([8, 8], 1, 1), ([16, 24], 2, 3), ([32, 32], 4, 6),
    ]  # fmt: skip


def assert_same(directory: Path, other: Path) -> None:
    """Compare every logged loss, every line of a phase and every final weight of two runs, to the last bit."""
    assert losses(directory) == losses(other)
    assert summaries(directory) == summaries(other)
    for stage in ("base", "grown"):
        ours, theirs = (weights(folder / f"stages/{stage}/model") for folder in (directory, other))
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("moment", ["stages/base/checkpoints/checkpoint-4", "stages/grown/checkpoints/checkpoint-2"])
def test_killed_in_a_phase_continues_exactly(
    moment: str, processes: Server, recipe: Path, tmp_path: Path, uninterrupted: Path
) -> None:
    """SIGKILL within a phase: the same command ends with the same losses, weights and lines of the phases."""
    directory = tmp_path / "run"
    processes.killed(processes.start(recipe, directory), (directory / moment / "ctxkit.json").exists)
    assert not (directory / "stages/grown/stage.json").exists()
    assert_same(run(recipe, directory).path, uninterrupted)


def test_killed_at_random_moments_until_it_is_finished(
    processes: Server, recipe: Path, tmp_path: Path, uninterrupted: Path
) -> None:
    """SIGKILL wherever it hits, preparation and evaluation included, again and again."""
    seed = int.from_bytes(os.urandom(4), "little")
    sys.stderr.write(f"seed of the moments: {seed}\n")
    directory, moments = tmp_path / "run", random.Random(seed)
    whole = sum(line["seconds"] for line in lines(uninterrupted, "base")[-1:]) + SECONDS_OUTSIDE
    for _ in range(KILLS):
        later = time.monotonic() + moments.uniform(0.0, 1.5 * whole)
        ended = processes.killed(processes.start(recipe, directory), lambda when=later: time.monotonic() > when)
        assert ended in ([0], [-signal.SIGKILL])
    assert_same(run(recipe, directory).path, uninterrupted)


KILLS = 6
SECONDS_OUTSIDE = 1.0
"""What a run spends before and after it trains, about."""


class KilledError(BaseException):
    """What no handler of errors catches."""


@pytest.mark.parametrize("call", [15, 2 * 19 + 10], ids=["step 8", "step 5 of the second stage"])
def test_logs_of_several_steps_are_those_of_a_run_that_was_not_killed(
    call: int, recipe: Path, tmp_path: Path, slowly: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a log every 4 steps and a checkpoint every 3, each loss is the mean over the same steps."""
    step, calls = ScaledTrainer.training_step, itertools.count(1)

    def killed(self: Any, *rest: Any) -> Any:
        if next(calls) == call:
            raise KilledError
        return step(self, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(ScaledTrainer, "training_step", killed)
        with pytest.raises(KilledError):
            run(recipe, tmp_path / "run", SLOWLY)
    assert_same(run(recipe, tmp_path / "run", SLOWLY).path, slowly)


SLOWLY = ("train.logging_steps=4", "train.save_steps=3", "train.save_total_limit=null")


@pytest.fixture(scope="module")
def slowly(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a run that nothing happened to, with few logs."""
    folder = tmp_path_factory.mktemp("slowly")
    (folder / "curricula.yaml").write_text(CURRICULA, encoding="utf-8")
    return run(folder / "curricula.yaml", folder / "run", SLOWLY).path


def test_mean_of_a_phase_is_that_of_its_steps(slowly: Path, uninterrupted: Path) -> None:
    """However often is logged, to the rounding of sums."""
    every, few = ([line["train_loss"] for line in summaries(folder)] for folder in (uninterrupted, slowly))
    assert few == pytest.approx(every, rel=1e-5)


@pytest.fixture(scope="module")
def two(processes: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a run of two processes that nothing happened to."""
    folder = tmp_path_factory.mktemp("two")
    (folder / "curricula.yaml").write_text(CURRICULA, encoding="utf-8")
    processes.start(folder / "curricula.yaml", folder / "run", HALF, world=2)
    assert processes.ended() == [0, 0]
    return folder / "run"


def test_two_processes_killed_in_a_phase_continue_exactly(
    processes: Server, recipe: Path, tmp_path: Path, two: Path
) -> None:
    """SIGKILL of both: the two go on, and end with the losses, weights and phases of two that were not killed."""
    directory = tmp_path / "run"
    moment = directory / "stages/base/checkpoints/checkpoint-4/ctxkit.json"
    ended = processes.killed(processes.start(recipe, directory, HALF, world=2), moment.exists)
    assert ended == [-signal.SIGKILL, -signal.SIGKILL]
    processes.start(recipe, directory, HALF, world=2)
    assert processes.ended() == [0, 0]
    assert_same(directory, two)


HALF = ("train.gradient_accumulation_steps=1",)
"""With two processes, the rows of a step that one has with 2."""


def test_two_processes_train_the_same_steps(two: Path, uninterrupted: Path) -> None:
    """Two processes of half the accumulation see the same rows in each step, and say the same of the phases."""
    one, both = losses(uninterrupted), losses(two)
    assert one.keys() == both.keys()
    # The same rows in each step, summed in another order.
    assert all(abs(one[key] - both[key]) < 2e-3 * one[key] for key in one)
    told = ("phase", "epoch", "first_step", "last_step", "length", "window", "examples", "difficulty", "tokens")
    ours, theirs = ([{key: line[key] for key in told} for line in summaries(d)] for d in (two, uninterrupted))
    assert ours == theirs
