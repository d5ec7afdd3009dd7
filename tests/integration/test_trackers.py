"""Trackers get what evals measured, by the callbacks of transformers."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from transformers import TrainerCallback
from transformers.integrations import integration_utils

from ctxkit.rundir import RunDirectory
from ctxkit.spec import EvalReport, Measurement
from ctxkit.train import run
from ctxkit.train.trackers import log_reports, one_wandb_run

pytestmark = pytest.mark.torch

RECIPE = """\
name: tracked
model:
  config: {model_type: llama, hidden_size: 16, intermediate_size: 32, num_hidden_layers: 1, num_attention_heads: 2,
           max_position_embeddings: 64, rope_parameters: {rope_type: default, rope_theta: 10000.0}}
tokenizer: {train: {vocab_size: 258}}
data: {sources: [{kind: repeats, documents: 8, length: 31}], chunker: {kind: overlap, length: 32}}
evals: [{kind: perplexity, source: {kind: repeats, documents: 8, length: 63}, lengths: [16, 48], windows: 3}]
train: {max_steps: 2, per_device_train_batch_size: 2, bf16: false, activation_checkpointing: false, logging_steps: 1,
        report_to: recorder}
"""
LOGGED: list[tuple[int, dict[str, Any]]] = []


class Recorder(TrainerCallback):
    """Keeps what is logged."""

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """Keep it with its step."""
        del args, control
        LOGGED.append((state.global_step, logs))


class Broken(TrainerCallback):
    """A tracker without a network."""

    def on_log(self, *_: Any, **__: Any) -> None:
        """Fail."""
        raise ConnectionError("no network")


@pytest.fixture(autouse=True)
def tracker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two trackers that transformers knows by name."""
    LOGGED.clear()
    for name, callback in (("recorder", Recorder), ("broken", Broken)):
        monkeypatch.setitem(integration_utils.INTEGRATION_TO_CALLBACK, name, callback)


def test_training_and_evals_reach_the_tracker_of_a_recipe(tmp_path: Path) -> None:
    """The loss of each step by TRL, then every measurement at the last step, with the values of the report."""
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    directory = run(tmp_path / "recipe.yaml", tmp_path / "run")
    assert [step for step, logs in LOGGED if "loss" in logs] == [1, 2]
    step, logs = LOGGED[-1]
    assert step == 2
    report = EvalReport.from_json(json.loads(directory.evaluation("tracked", 0, "perplexity").read_text()))
    values = {(item.metric, item.length): item.value for item in report.measurements if item.positions is None}
    assert logs["eval_perplexity_16"] == values["perplexity", 16]
    assert logs["eval_perplexity_tail_48"] == values["perplexity_tail", 48]
    LOGGED.clear()
    run(tmp_path / "recipe.yaml", tmp_path / "run")
    assert LOGGED == []


def test_names_and_a_tracker_that_fails(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Depths and positions are told apart, and a failure is one line."""
    from transformers import TrainingArguments

    items = (
        Measurement("accuracy", 64, 0.5, 0, 1, 4),
        Measurement("accuracy", 64, 0.25, 0, 1, 4, depth=0.5),
        Measurement("passkey", 0, 0.125, 0, 1, 4, positions=(16, 32)),
    )
    arguments = TrainingArguments(output_dir=str(tmp_path), report_to=["broken", "recorder"], use_cpu=True)
    log_reports(arguments, 7, (EvalReport("passkey", items), EvalReport("passkey", items)))
    expected = {
        "eval_passkey_accuracy_64": 0.5,
        "eval_passkey_accuracy_64_depth_0.5": 0.25,
        "eval_passkey_from_16": 0.125,
    }
    expected |= {name.replace("passkey", "passkey_2"): value for name, value in expected.items()}
    assert [(7, expected)] == LOGGED
    assert "Broken did not take the evals: no network" in capsys.readouterr().err
    log_reports(arguments, 7, ())
    assert len(LOGGED) == 1


def test_tensorboard_goes_on_where_it_was(tmp_path: Path) -> None:
    """One folder holds all attempts at a stage, each step once: what a killed attempt logged too much is taken out."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator").EventAccumulator
    (tmp_path / "recipe.yaml").write_text(RECIPE.replace("recorder", "tensorboard"))
    sets = ("evals=[]", "train.max_steps=6", "train.save_steps=2")
    run(tmp_path / "recipe.yaml", tmp_path / "run", sets)
    stage = tmp_path / "run/stages/tracked"
    for path in (stage / "stage.json", stage / "finished"):
        path.unlink()
    for step in (4, 6):
        shutil.rmtree(stage / f"checkpoints/checkpoint-{step}")
    run(tmp_path / "recipe.yaml", tmp_path / "run", sets)
    (folder,) = (stage / "checkpoints/runs").iterdir()
    events = accumulator(str(folder))
    events.Reload()
    assert [event.step for event in events.Scalars("train/loss")] == [1, 2, 3, 4, 5, 6]
    assert len(list(folder.glob("events*"))) == 2


def test_every_attempt_is_one_run_of_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The id is the directory's; one that somebody chose is left, and without wandb nothing is set."""
    monkeypatch.delenv("WANDB_RUN_ID", raising=False)
    directory = RunDirectory(tmp_path)
    seen = []
    for _ in range(2):
        with one_wandb_run(directory, ["wandb"]):
            seen.append((os.environ["WANDB_RUN_ID"], os.environ["WANDB_RESUME"]))
    assert seen == [(directory.status()["wandb_run_id"], "allow")] * 2
    with one_wandb_run(directory, ["tensorboard"]):
        assert "WANDB_RUN_ID" not in os.environ
    monkeypatch.setenv("WANDB_RUN_ID", "mine")
    with one_wandb_run(directory, ["wandb"]):
        assert os.environ["WANDB_RUN_ID"] == "mine"
