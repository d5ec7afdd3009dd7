"""What goes wrong during a run is one message with its exit code, and nothing half-written is taken for whole."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from safetensors.torch import load_file

from ctxkit.errors import CtxkitError, DataError, DiskError, ExitCode, NotFiniteError, RecipeError
from ctxkit.train import run, validate_deep
from tests.integration.forking import Server
from tests.integration.micro import RECIPE

pytestmark = pytest.mark.torch


def test_loss_that_is_not_finite_stops_before_it_is_saved(recipe: Path, tmp_path: Path) -> None:
    """A learning rate of 1e30 ends with exit code 5 and the step, and no checkpoint holds NaN."""
    with pytest.raises(NotFiniteError, match=r"at step \d+ of 8") as caught:
        run(recipe, tmp_path / "run", ["stages.base.train.learning_rate=1e30", "train.lr_scheduler_type=constant"])
    assert caught.value.exit_code == ExitCode.NOT_FINITE
    assert not (tmp_path / "run/stages/base/stage.json").exists()
    for checkpoint in (tmp_path / "run").rglob("checkpoint-*/model.safetensors"):
        assert all(bool(tensor.isfinite().all()) for tensor in load_file(checkpoint).values())


def test_weights_that_are_not_finite_are_not_a_result(recipe: Path, tmp_path: Path) -> None:
    """Even with nothing logged and no checkpoint asked for, a model with NaN in it is not saved as the stage's."""
    # The one step has a loss and gradients that are finite: nothing but the weights tells.
    quiet = ["train.logging_strategy=no", "train.save_strategy=no", "stages.base.train.max_steps=1"]
    with pytest.raises(NotFiniteError, match="the weights"):
        run(recipe, tmp_path / "run", [*quiet, "stages.base.train.learning_rate=1e39"])
    assert not (tmp_path / "run/stages/base/model").exists()


def test_empty_documents_are_no_training_data(recipe: Path, tmp_path: Path) -> None:
    """A corpus of empty files is refused with exit code 3, where TRL would train at loss 0."""
    (tmp_path / "empty.txt").write_text("")
    source = f"{{kind: files, paths: ['{tmp_path}/*.txt']}}"
    with pytest.raises(DataError, match=r"it yields no documents.*\n.*empty \(1\)") as caught:
        run(recipe, tmp_path / "run", [f"stages.base.data.sources.0={source}"])
    assert caught.value.exit_code == ExitCode.DATA
    assert not list((tmp_path / "run/data").glob("*/manifest.json"))


def test_missing_files_are_named(recipe: Path, tmp_path: Path) -> None:
    """A pattern that matches nothing is said, with the pattern."""
    with pytest.raises(DataError, match="no file matches nowhere/"):
        run(recipe, tmp_path / "run", ["stages.base.data.sources.0={kind: files, paths: ['nowhere/*.txt']}"])


def test_missing_held_out_files_are_found_before_training(recipe: Path, tmp_path: Path) -> None:
    """An eval whose documents are missing ends the run before the first step, not after the last."""
    with pytest.raises(DataError, match=r"stage base, evals\.1 \(kind files\): no file matches nowhere/"):
        run(recipe, tmp_path / "run", ["evals.1.source={kind: files, paths: ['nowhere/*.txt']}"])
    assert not (tmp_path / "run/stages").exists()


def test_eval_that_cannot_be_made_is_found_before_training(recipe: Path, tmp_path: Path) -> None:
    """A length without room for the needle ends the run before the first step."""
    with pytest.raises(DataError, match=r"evals\.0 \(kind passkey\): .*no room for needle"):
        run(recipe, tmp_path / "run", ["evals.0.lengths=[8]"])
    assert not (tmp_path / "run/stages").exists()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("model.attn_implementation=flash_attention_2 train.bf16=true", "no model can be made: ImportError"),
        ("model.config.num_attention_heads=0", "no config can be made: ZeroDivisionError"),
        ("model.config.num_attention_heads=3", "no config can be made"),
        ("model.config.num_hiden_layers=2", "LlamaConfig has no such field"),
        ("train.optim=lomo", "needs a package that is missing"),
        ("train.report_to=wandb", "the trainer of stage base refuses its arguments"),
    ],
)
def test_what_the_libraries_refuse_is_a_message(wrong: str, said: str, recipe: Path, tmp_path: Path) -> None:
    """A missing package or an impossible shape names the place, with exit code 2."""
    with pytest.raises(CtxkitError, match=said) as caught:
        run(recipe, tmp_path / "run", wrong.split())
    assert caught.value.exit_code == ExitCode.RECIPE


def test_filter_that_drops_everything_is_named(recipe: Path, tmp_path: Path) -> None:
    """The message says which filter left nothing, and how many documents it dropped."""
    with pytest.raises(DataError, match=r"shorter than 500 characters \(64 documents\)"):
        run(recipe, tmp_path / "run", ["stages.base.data.filters=[{kind: length, min_characters: 500}]"])


def test_run_directory_that_cannot_be_written_is_exit_code_6(recipe: Path, tmp_path: Path) -> None:
    """A run directory below a file is refused before anything is done."""
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskError, match="cannot be written"):
        run(recipe, tmp_path / "file/run")


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
@pytest.mark.slow
def test_full_disk_is_exit_code_6_and_costs_nothing(recipe: Path, tmp_path: Path, processes: Server) -> None:
    """With no space for a checkpoint the run ends with 6; with space the same command finishes."""
    disk = tmp_path / "run"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=900k", "none", str(disk)], check=False)
    if mounted.returncode:
        pytest.skip("this machine does not let a small disk be mounted")
    line = ("run", str(recipe), "--run-dir", str(disk))
    try:
        full = processes.typed(*line, cwd=tmp_path)
        assert full.codes == [ExitCode.DISK], full.err
        assert "Traceback" not in full.err
        subprocess.run(["mount", "-o", "remount,size=50m", str(disk)], check=True)
        done = processes.typed(*line, cwd=tmp_path)
        assert done.codes == [ExitCode.DONE], done.err
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_values_that_sftconfig_refuses_are_a_recipe_fault(recipe: Path, tmp_path: Path) -> None:
    """SFTConfig has the last word on values; its refusal names the place in the recipe."""
    with pytest.raises(RecipeError, match="SFTConfig refuses these values"):
        run(recipe, tmp_path / "run", ["train.lr_scheduler_type=sawtooth"])


def test_deep_validation_finds_what_the_quick_one_cannot(recipe: Path) -> None:
    """`validate --deep` asks SFTConfig, the model's config and every source, and writes nothing."""
    from ctxkit import checks
    from ctxkit.host import Host
    from ctxkit.registry import collect

    host = Host()
    good = checks.load(recipe, collect(host), host)
    validate_deep(good)
    for wrong, said in (
        ("train.optim=no_such_optimizer", "SFTConfig refuses"),
        ("stages.base.data.sources.0={kind: files, paths: ['nowhere/*']}", "no file matches"),
        ("model.config.model_type=no_such_architecture", "no config can be made"),
    ):
        with pytest.raises(CtxkitError, match=said):
            validate_deep(checks.load(recipe, collect(host), host, (wrong,)))


def test_model_that_ignores_the_scaling_is_refused(recipe: Path, tmp_path: Path) -> None:
    """A plugin that hands back a model with the old frequencies is found out before a step is trained."""
    from transformers import AutoConfig, AutoModelForCausalLM

    from ctxkit import checks
    from ctxkit.host import Host
    from ctxkit.registry import collect
    from ctxkit.rundir import RunDirectory
    from ctxkit.spec import ModelRequest, hookimpl
    from ctxkit.train import run_located

    class Forgetful:
        """Loads the weights with the config they were saved with."""

        @hookimpl
        def ctxkit_make_model(self, request: ModelRequest):
            if request.weights is None:
                return None
            return AutoModelForCausalLM.from_pretrained(
                request.weights, config=AutoConfig.from_pretrained(request.weights)
            )

    host = Host()
    host.register(Forgetful(), "forgetful")
    registry = collect(host)
    located = checks.load(recipe, registry, host)
    with pytest.raises(CtxkitError, match="does not have the rotary frequencies"):
        run_located(located, host, RunDirectory(tmp_path / "run"), ["test"])
    assert not (tmp_path / "run/stages/yarn/stage.json").exists()


def test_tokenizer_of_another_model_is_noticed(tmp_path: Path) -> None:
    """Token ids beyond the embeddings are named before training, where a GPU would end in a device assertion."""
    recipe = tmp_path / "micro.yaml"
    recipe.write_text(RECIPE.replace("model_type: llama", "model_type: llama\n    vocab_size: 50"), encoding="utf-8")
    with pytest.raises(DataError, match=r"token id \d+, and the model has 50 embeddings"):
        run(recipe, tmp_path / "run")
