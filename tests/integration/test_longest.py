"""The longest batch before the first step: a lack of memory is known there, and training is the same to a bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from trl import SFTTrainer

from ctxkit.errors import OutOfMemoryError
from ctxkit.train import run
from tests.integration.micro import RECIPE, losses, weights

pytestmark = [pytest.mark.torch, pytest.mark.slow]

ONE = RECIPE[: RECIPE.index("evals:")] + RECIPE[RECIPE.index("stages:") : RECIPE.index("  - name: control")]
LONGEST = 61


@pytest.fixture
def uneven(tmp_path: Path) -> Path:
    """Rows of many lengths, dropout, and a rotary module that remembers the longest row it saw."""
    for number in range(64):
        (tmp_path / f"{number:02}.txt").write_text("ab " * (20 if number == 40 else 2 + number % 7))
    source = f"{{kind: files, paths: ['{tmp_path}/*.txt']}}"
    text = ONE.replace("{kind: repeats, documents: 64, length: 31}", source).replace("length: 32", "length: 64")
    text = text.replace("max_steps: 8", "max_steps: 16")
    text = text.replace("  tie_word", "  attention_dropout: 0.1\n    tie_word").replace(
        "save_steps: 2", "save_steps: 50"
    )
    text = text.replace("  - name: base\n", "  - name: base\n    rope: {kind: dynamic, factor: 2}\n")
    (tmp_path / "one.yaml").write_text(text, encoding="utf-8")
    return tmp_path / "one.yaml"


def test_training_is_the_same_to_the_last_bit(
    uneven: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One forward and backward pass more, of the longest row; losses, counted tokens and weights are as without it."""
    shapes: list[tuple[int, ...]] = []
    call = SFTTrainer.training_step

    def seen(trainer: SFTTrainer, model: Any, inputs: dict[str, Any], *rest: Any, **named: Any) -> Any:
        shapes.append(tuple(inputs["input_ids"].shape))
        return call(trainer, model, inputs, *rest, **named)

    monkeypatch.setattr(SFTTrainer, "training_step", seen)
    without = run(uneven, tmp_path / "without").path
    # Rows within the window before it and beyond it afterwards: both see what a rotary module remembers.
    assert (4, LONGEST) in shapes[3:]
    assert (4, LONGEST) not in shapes[:3]
    plain, shapes[:] = list(shapes), []
    tried = run(uneven, tmp_path / "tried", ["try_longest=true"]).path
    assert shapes == [(4, LONGEST), *plain]
    assert f"the longest batch fits: 4 rows of up to {LONGEST} tokens" in capsys.readouterr().err
    assert losses(tried) == losses(without)
    assert '"num_tokens"' in (tried / "metrics.jsonl").read_text()
    counted = [[line.partition('"num_tokens": ')[2].partition(",")[0] for line in path.open()] for path in (
        tried / "metrics.jsonl", without / "metrics.jsonl")]  # fmt: skip
    assert counted[0] == counted[1]
    ours, theirs = (weights(folder / "stages/base/model") for folder in (tried, without))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_what_does_not_fit_is_known_before_the_first_step(
    uneven: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row that is too long ends the run before a step is taken, and is named by its length."""
    call, calls = SFTTrainer.compute_loss, []

    def short(trainer: SFTTrainer, model: Any, inputs: dict[str, Any], *rest: Any, **named: Any) -> Any:
        calls.append(inputs["input_ids"].shape[1])
        if calls[-1] == LONGEST:
            torch.empty(1 << 50)
        return call(trainer, model, inputs, *rest, **named)

    monkeypatch.setattr(SFTTrainer, "compute_loss", short)
    with pytest.raises(OutOfMemoryError, match=rf"stage base \(trying the longest rows\), 4 x {LONGEST} tokens"):
        run(uneven, tmp_path / "run", ["try_longest=true"])
    assert calls == [LONGEST]
