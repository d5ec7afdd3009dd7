"""A whole run: its stages, its artifacts, and what happens when it is typed again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from ctxkit import cli
from ctxkit.errors import ExitCode, ResumeError
from ctxkit.train import run
from tests.integration.micro import RECIPE, losses

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A recipe and the directory of its finished run."""
    folder = tmp_path_factory.mktemp("finished")
    recipe = folder / "micro.yaml"
    recipe.write_text(RECIPE, encoding="utf-8")
    return recipe, run(recipe, folder / "run").path


def test_every_stage_leaves_its_steps_in_the_metrics(finished: tuple[Path, Path]) -> None:
    """Each step of each stage is logged once, with a finite loss."""
    logged = losses(finished[1])
    assert sorted(logged) == sorted(
        [("base", step) for step in range(1, 9)]
        + [(name, step) for name in ("control", "yarn") for step in range(1, 5)]
    )
    assert all(0 < loss < 10 for loss in logged.values())


def test_saved_model_reloads_with_the_frequencies_of_yarn(finished: tuple[Path, Path]) -> None:
    """`AutoModelForCausalLM` alone, without ctxkit, gets the scaled frequencies from the artifact."""
    model = AutoModelForCausalLM.from_pretrained(finished[1] / "stages/yarn/model")
    # d=16, base 10000, 32 -> 64: the first pair turns fast enough to be kept, the last is divided by 2.
    plain = 10000.0 ** (-torch.arange(0, 16, 2, dtype=torch.float64) / 16)
    buffer = model.model.rotary_emb.inv_freq.double()
    assert torch.isclose(buffer[-1], plain[-1] / 2, rtol=1e-6)
    assert not torch.allclose(buffer, plain, rtol=1e-3)
    assert model.model.rotary_emb.attention_scaling == pytest.approx(0.1 * 0.6931471805599453 + 1)
    assert model.config.max_position_embeddings == 64
    assert model.config.rope_parameters["rope_theta"] == 10000.0


def test_control_keeps_the_frequencies_of_the_base(finished: tuple[Path, Path]) -> None:
    """The control differs from the extension by nothing but the scaling."""
    config = json.loads((finished[1] / "stages/control/model/config.json").read_text())
    assert config["rope_parameters"]["rope_type"] == "default"
    records = {path.parent.name: json.loads(path.read_text()) for path in (finished[1] / "stages").glob("*/stage.json")}
    assert records["control"]["data"] == records["yarn"]["data"]
    assert records["control"]["steps"] == records["yarn"]["steps"]


def test_tokenizer_limit_is_raised_with_the_window(finished: tuple[Path, Path]) -> None:
    """The tokenizer saved with an extended model does not hold on to the old limit."""
    assert AutoTokenizer.from_pretrained(finished[1] / "stages/yarn/model").model_max_length == 64


def test_ledger_accounts_for_every_token(finished: tuple[Path, Path]) -> None:
    """Tokens read are kept, dropped or unused; what an overlap repeats comes on top, masked."""
    manifests = [json.loads(path.read_text()) for path in (finished[1] / "data").glob("*/manifest.json")]
    assert len(manifests) == 2
    for manifest in manifests:
        for source in manifest["sources"]:
            spent = source["tokens_kept"] + source["tokens_unused"] + sum(source["dropped"].values())
            assert source["tokens_read"] == spent + source["tokens_eval"]
    # 40 documents of 100 characters and an end token: windows of 64 that share 8 tokens.
    long = next(manifest for manifest in manifests if manifest["length"] == 64)
    assert (long["train"]["tokens_trained"], long["train"]["tokens_masked"]) == (40 * 101, 40 * 8)
    assert long["sources"][0]["tokens_repeated"] == 40 * 8


def test_finished_run_is_not_redone(finished: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    """Typed again, a finished run says so, shows its summary, and touches none of its files but the report."""
    recipe, directory = finished
    files = {
        path: path.stat().st_mtime_ns for path in directory.rglob("*") if path.is_file() and path.suffix != ".html"
    }
    assert cli.main(["run", str(recipe), "--run-dir", str(directory)]) == ExitCode.DONE
    output = capsys.readouterr()
    assert "nothing was redone" in output.err
    assert "Passkey accuracy" in output.out
    assert files == {path: path.stat().st_mtime_ns for path in files}
    assert (directory / "report.html").stat().st_size > 10_000


def test_changed_recipe_is_refused_with_the_change(finished: tuple[Path, Path]) -> None:
    """A run directory is not continued by another recipe; the message names old and new value."""
    recipe, directory = finished
    with pytest.raises(ResumeError, match=r"learning_rate: 0\.01 -> 0\.02"):
        run(recipe, directory, ["train.learning_rate=0.02"])


def test_changed_evals_are_measured_without_training(finished: tuple[Path, Path]) -> None:
    """A recipe whose evals alone changed measures anew what changed, and trains nothing."""
    recipe, directory = finished
    models = {path: path.stat().st_mtime_ns for path in directory.rglob("model.safetensors")}
    kept = (directory / "evals/yarn/1-perplexity.json").read_text()
    run(recipe, directory, ["evals.0.samples=3"])
    report = json.loads((directory / "evals/yarn/0-passkey.json").read_text())
    assert {measurement["count"] for measurement in report["measurements"]} == {3, 6}
    assert (directory / "evals/yarn/1-perplexity.json").read_text() == kept
    assert models == {path: path.stat().st_mtime_ns for path in models}
    run(recipe, directory)


@pytest.mark.parametrize("name", ["train.arrow", "ids.bin"])
def test_damaged_data_is_not_opened(finished: tuple[Path, Path], name: str) -> None:
    """Rows with a byte changed or cut are not opened, nor are rows whose tokens are."""
    from ctxkit.train.rows import open_rows

    data = finished[1] / "data"
    folder = data / json.loads((finished[1] / "data.json").read_text())["stages"]["base"]
    store = folder / json.loads((folder / "manifest.json").read_text())["stores"][0]["path"]
    file = folder / name if name == "train.arrow" else store / name
    assert open_rows(folder) is not None
    content = file.read_bytes()
    try:
        file.write_bytes(content[:-100] + b"\0" * 100)
        assert open_rows(folder) is None
        file.write_bytes(content[: len(content) // 2])
        assert open_rows(folder) is None
    finally:
        file.write_bytes(content)
