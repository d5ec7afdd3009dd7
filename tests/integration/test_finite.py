"""A loss that is not finite, or that explodes: exit code 5 at that step, with its rows, and the last good stays."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file
from trl import SFTTrainer

from ctxkit.errors import ExitCode, NotFiniteError
from ctxkit.resuming import Resume
from ctxkit.rundir import read_json
from ctxkit.train import checkpoints, run
from ctxkit.train.finite import SPIKE, WINDOW, Explosion, Spikes
from tests.integration.micro import RECIPE

pytestmark = [pytest.mark.torch, pytest.mark.slow]

ONE = RECIPE[: RECIPE.index("evals:")] + RECIPE[RECIPE.index("stages:") : RECIPE.index("  - name: control")]


OFFSET = 31
"""From the id of a digit to its code: two special tokens come first, and the bytes from `!` on."""


@pytest.fixture
def one(tmp_path: Path) -> Path:
    """A recipe of one stage without evals, whose documents are files with names."""
    for number in range(64):
        (tmp_path / f"{number:02}.txt").write_text(f"{number:02} " * 10)
    source = f"{{kind: files, paths: ['{tmp_path}/*.txt']}}"
    text = ONE.replace("{kind: repeats, documents: 64, length: 31}", source)
    (tmp_path / "one.yaml").write_text(text, encoding="utf-8")
    return tmp_path / "one.yaml"


def poisoned(call: Callable[..., Any], number: int, seen: list[list[int]], poison: Callable[..., Any]) -> Any:
    """Return a training step that remembers what it is given, and is poisoned in one of its calls."""

    def called(trainer: SFTTrainer, model: Any, inputs: dict[str, Any], *rest: Any, **named: Any) -> Any:
        seen.append([int("".join(chr(id_ + OFFSET) for id_ in row.tolist()[:2])) for row in inputs["input_ids"]])
        loss = call(trainer, model, inputs, *rest, **named)
        return poison(model, loss) if len(seen) == number else loss

    return called


def nan_loss(model: Any, loss: torch.Tensor) -> torch.Tensor:
    """Return NaN in place of a loss."""
    return loss * float("nan")


def inf_gradient(model: Any, loss: torch.Tensor) -> torch.Tensor:
    """Make one number of one gradient infinite, the loss as it is."""
    model.get_parameter("model.layers.1.mlp.up_proj.weight").grad[3, 4] = float("inf")
    return loss


@pytest.mark.parametrize(
    ("poison", "said"),
    [(nan_loss, "loss is nan"), (inf_gradient, "the gradient of model.layers.1.mlp.up_proj.weight is not finite")],
)
@pytest.mark.parametrize("more", [(), ("train.gradient_accumulation_steps=2", "train.num_train_epochs=9")])
def test_step_and_rows_are_named(
    poison: Any, said: str, more: tuple[str, ...], one: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The step itself is named, with every document that was in it, and nothing of it is in the weights."""
    seen: list[list[int]] = []
    batches = len(more) or 1
    number = 6 * batches if more else 6
    monkeypatch.setattr(SFTTrainer, "training_step", poisoned(SFTTrainer.training_step, number, seen, poison))
    with pytest.raises(NotFiniteError, match=r"at step 6 of 8 \(epoch ") as caught:
        run(one, tmp_path / "run", [*more, "train.logging_steps=50"])
    assert caught.value.exit_code == ExitCode.NOT_FINITE
    assert said in caught.value.message
    assert "go on from checkpoint-4 with --resume base/checkpoint-4 --on-change reset" in caught.value.hint
    rows = [row for batch in seen[number - batches : number] for row in batch]
    named = caught.value.message.partition("rows ")[2]
    assert [int(name) for name in named.partition(" (")[0].split(", ")] == rows[:8]
    assert all(f"{row:02}.txt'" in named for row in rows[:8])
    folder = tmp_path / "run/stages/base/checkpoints"
    newest, _ = checkpoints.newest(folder)
    assert newest == folder / "checkpoint-4"
    assert all(bool(tensor.isfinite().all()) for tensor in load_file(newest / "model.safetensors").values())


def test_nothing_saved_before_the_first_step(one: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At step 1 no checkpoint is promised; with another learning rate, what the message says to type trains."""
    with monkeypatch.context() as patch:
        patch.setattr(SFTTrainer, "training_step", poisoned(SFTTrainer.training_step, 1, [], nan_loss))
        with pytest.raises(NotFiniteError, match=r"at step 1 of 8") as caught:
            run(one, tmp_path / "run")
    said = read_json(tmp_path / "run/run.json")
    assert (said["status"], said["exit_code"]) == ("failed", ExitCode.NOT_FINITE)
    assert "nothing of this stage is saved: begin it again with --on-change reset" in caught.value.hint
    run(one, tmp_path / "run", ["train.learning_rate=0.001"], Resume(on_change="reset"))
    assert read_json(tmp_path / "run/run.json")["status"] == "done"


def test_an_exploding_loss_ends_before_the_good_checkpoints_are_deleted(
    one: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From step 30 on the loss is finite and far above guessing: the checkpoints before it stay, and are named."""
    seen: list[list[int]] = []
    call = SFTTrainer.training_step

    def high(*arguments: Any, **named: Any) -> Any:
        seen.append([])
        loss = call(*arguments, **named)
        return loss if len(seen) < 30 else torch.full_like(loss, 12.0)  # high enough to be seen after some saves alone

    monkeypatch.setattr(SFTTrainer, "training_step", high)
    longer = ["stages.base.train.max_steps=80", "train.num_train_epochs=9", "train.save_steps=4"]
    with pytest.raises(NotFiniteError, match=r"the loss explodes at step .* since step 30") as caught:
        run(one, tmp_path / "run", longer)
    assert caught.value.exit_code == ExitCode.NOT_FINITE
    assert f"guessing costs {math.log(258):.2f}" in caught.value.message
    assert "--resume base/checkpoint-28 --on-change reset" in caught.value.hint
    assert checkpoints.newest(tmp_path / "run/stages/base/checkpoints")[0] is not None
    assert (tmp_path / "run/stages/base/checkpoints/checkpoint-28").is_dir()
    assert 36 < len(seen) < 30 + WINDOW  # two saves later: as many as are kept


def test_a_high_start_is_no_explosion() -> None:
    """A window just extended begins above ln(vocabulary) and falls: no alarm; twice as high as it began is one."""
    rule = Explosion(1.5, 1000)
    for step in range(200):
        rule.add(step, 6.9 + 5 * math.exp(-step / 30))
        assert rule.since is None
    high = Explosion(1.5, 1000)
    for step in range(WINDOW):
        high.add(step, 11.0)
    for step in range(WINDOW, 3 * WINDOW):
        assert high.since is None
        high.add(step, 16.0)  # below 1.5 x 11
    assert not high.rising
    for step in range(3 * WINDOW, 5 * WINDOW):
        high.add(step, 22.0)
    assert high.rising
    assert high.since == 4 * WINDOW
    off = Explosion(None, 1000, list(high.first), high.last)
    assert off.since is None


def test_one_bad_batch_is_no_explosion_and_a_resumed_run_knows_its_start() -> None:
    """The mean of 20 steps counts; what a stage began with is read from the log of its checkpoint."""
    rule = Explosion(1.5, 1000)
    rule.resume([{"step": 10, "loss": 12.0}, {"step": 20, "loss": 10.0}, {"step": 30, "loss": 1.0}, {"eval_loss": 3}])
    assert rule.bar == pytest.approx(1.5 * 11)
    for step in range(WINDOW):
        rule.add(step, 2.0 if step != 7 else 100.0)
    assert rule.since is None
    silent = Explosion(1.5, 1000)
    silent.resume([])
    assert silent.bar == math.inf


def test_spikes_are_counted_and_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    """A norm ten times the median of those before it."""
    spikes = Spikes()
    for step in range(1, 60):
        spikes.add(step, 0.5 if step not in (10, 40, 50) else SPIKE)
    assert spikes.steps == [40, 50]  # at step 10 nobody knows yet what is usual
    assert capsys.readouterr().err.count("note:") == 1


def test_rows_of_a_curriculum_are_those_of_the_prepared_data() -> None:
    """A curriculum serves rows at places of its own; a message names the row of the data."""
    from ctxkit.train import whence

    served = Dataset.from_dict({"row": [7, 3], "window": [0, 0]})
    assert [whence._row(served, place) for place in (0, 1)] == [7, 3]
    assert whence.step_rows(SimpleNamespace(), 0, 1) == []
