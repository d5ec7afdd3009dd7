"""A sweep of real runs: points that fail are said, finished ones are not redone, and the table has the rest."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ctxkit.cli import main
from ctxkit.sweep import parse_all, points, running
from ctxkit.train import run
from tests.integration.micro import RECIPE

pytestmark = [pytest.mark.torch, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
ONE = RECIPE.partition("  - name: control")[0].replace("max_steps: 8", "max_steps: 2")


def sweep(recipe: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `ctxkit sweep`."""
    line = [sys.executable, "-m", "ctxkit", "sweep", str(recipe), "--sweep-dir", str(folder), *arguments]
    return subprocess.run(line, capture_output=True, text=True, check=False, cwd=ROOT, timeout=280)


def test_a_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """One job of an array, then the rest: the first point is recognised; table and figure hold both."""
    recipe, folder = tmp_path / "micro.yaml", tmp_path / "sweep"
    recipe.write_text(f"{ONE}sweep: {{stages.base.train.learning_rate: [0.001, 0.01]}}\n")
    listed = sweep(recipe, folder, "--list")
    assert listed.returncode == 0, listed.stderr
    assert len(listed.stdout.splitlines()) == 2
    assert not folder.exists()
    first = sweep(recipe, folder, "--point", "0/2")
    assert first.returncode == 0, first.stderr
    assert [path.name for path in folder.iterdir()] == ["learning_rate-0.001"]
    # The other begins no process: that the first did is enough.
    monkeypatch.setattr(running, "_ended", lambda words: main(list(words[3:])))
    assert main(["sweep", str(recipe), "--sweep-dir", str(folder)]) == 0
    out, err = capfd.readouterr()
    assert err.count("is finished; nothing was redone") == 1
    lines = list(csv.DictReader((folder / "sweep.csv").open()))
    losses = {line["point"]: float(line["value"]) for line in lines if line["metric"] == "loss"}
    for name, loss in losses.items():
        logged = [json.loads(line) for line in (folder / name / "metrics.jsonl").read_text().splitlines()]
        assert loss == [line["loss"] for line in logged if "loss" in line][-1]
    assert set(losses) == {"learning_rate-0.001", "learning_rate-0.01"}
    assert "<svg" in (folder / "sweep.html").read_text()
    assert "train.loss" in out


def test_a_value_that_cannot_be_stops_before_the_first_run(tmp_path: Path) -> None:
    """With the place of the fault; nothing was run."""
    recipe = tmp_path / "micro.yaml"
    recipe.write_text(ONE)
    done = sweep(recipe, tmp_path / "sweep", "--over", "stages.base.train.max_steps=2,many")
    assert done.returncode == 2
    assert "max_steps" in done.stderr
    assert not (tmp_path / "sweep").exists()


def test_a_value_that_reaches_no_stage_is_refused(tmp_path: Path) -> None:
    """The stage states its own learning rate, so two runs would be one."""
    recipe = tmp_path / "micro.yaml"
    recipe.write_text(ONE.replace("train: {max_steps: 2}", "train: {max_steps: 2, learning_rate: 0.01}"))
    refused = sweep(recipe, tmp_path / "sweep", "--over", "train.learning_rate=0.1,0.2", "--over", "train.seed=0,1")
    assert refused.returncode == 2, refused.stdout
    assert "are the same run: train.learning_rate reaches no stage" in refused.stderr
    assert not (tmp_path / "sweep").exists()


def test_what_is_swept_need_not_be_stated(tmp_path: Path) -> None:
    """Neither the length of the rows nor a learning rate, each listed with its values; a plain run names what lacks."""
    recipe = tmp_path / "micro.yaml"
    recipe.write_text(ONE.replace(", length: 32}", "}") + "sweep: {train.learning_rate: [0.001, 0.01]}\n")
    listed = sweep(recipe, tmp_path / "sweep", "--over", "train.max_length=16,32,64", "--list")
    assert listed.returncode == 0, listed.stderr
    assert len(listed.stdout.splitlines()) == 6
    assert "--set train.max_length=64" in listed.stdout
    alone = sweep(recipe, tmp_path / "sweep", "--list")
    assert alone.returncode == 2
    assert "or state train.max_length" in alone.stderr


LORA = "adapter: {r: 4, lora_alpha: 8, target_modules: [q_proj, v_proj]}\n"


def test_every_point_starts_from_the_same_adapter(tmp_path: Path) -> None:
    """With a learning rate of 0 each point ends with the very adapter that it began with, whatever its rows."""
    start, recipe = tmp_path / "start.yaml", tmp_path / "sweep.yaml"
    text = ONE[: ONE.index("evals:")] + ONE[ONE.index("stages:") :]
    start.write_text(text + f"  - name: warm\n    {LORA}    train: {{max_steps: 2}}\n" + DATA.replace("\n", "\n    "))
    made = run(start, tmp_path / "made").path / "stages"
    training = text[text.index("train:\n") : text.index("stages:")].replace("1.0e-2", "0.0")
    model = f"model: {{name_or_path: {made}/base/model, adapter_name_or_path: {made}/warm/model}}\n"
    recipe.write_text(f"name: swept\n{model}{LORA}{training}  max_steps: 2\n{DATA.replace(', length: 32}', '}')}")
    trained = load_file(made / "warm/model/adapter_model.safetensors")
    for point in points(parse_all(["train.max_length=16,32"])):
        directory = run(recipe, tmp_path / point.name, point.sets).path
        ended = load_file(directory / "stages/swept/model/adapter_model.safetensors")
        assert all(torch.equal(ended[name], trained[name]) for name in trained)
        assert (
            json.loads((directory / "run.json").read_text())["stages"][0]["length"] == point.values["train.max_length"]
        )


DATA = "data: {sources: [{kind: repeats, documents: 64, length: 31}], chunker: {kind: overlap, length: 32}}\n"
