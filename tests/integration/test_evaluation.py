"""`ctxkit eval`: any model, adapter or stage, the same figures whoever asks, and nothing measured twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from ctxkit.cli import main
from ctxkit.errors import ExitCode
from ctxkit.recipe import TokenizerTraining
from ctxkit.train.tokenizer import byte_tokenizer

pytestmark = pytest.mark.torch

DOCS = Path(__file__).parents[2] / "docs"
SUITE = """\
evals:
  - {kind: perplexity, source: {kind: repeats, documents: 6, length: 63}, lengths: [16, 32, 48], windows: 5}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model, an adapter around it, both in one, and a suite."""
    torch.manual_seed(0)
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=258, max_position_embeddings=32, eos_token_id=1, **small))
    byte_tokenizer(TokenizerTraining(vocab_size=258)).save_pretrained(tmp_path / "model")
    byte_tokenizer(TokenizerTraining(vocab_size=258)).save_pretrained(tmp_path / "merged")
    model.save_pretrained(tmp_path / "model")
    wrapped: Any = get_peft_model(
        LlamaForCausalLM.from_pretrained(tmp_path / "model"),
        LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["q_proj", "v_proj"]),
    )
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    wrapped.save_pretrained(tmp_path / "adapter")
    PeftModel.from_pretrained(
        LlamaForCausalLM.from_pretrained(tmp_path / "model"), tmp_path / "adapter"
    ).merge_and_unload().save_pretrained(tmp_path / "merged")
    (tmp_path / "suite.yaml").write_text(SUITE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def measured(output: Path) -> list[tuple[str, int, float]]:
    """Return each measurement of the one report in a folder of results."""
    (file,) = (output / "evals/model").glob("*.json")
    jsonschema.validate(json.loads(file.read_text()), json.loads((DOCS / "evals.schema.json").read_text()))
    return [(item["metric"], item["length"], item["value"]) for item in json.loads(file.read_text())["measurements"]]


def test_adapter_is_measured_around_its_model(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The figures of an adapter are those of its weights merged by peft, and others than the model's."""
    for name in ("model", "adapter", "merged"):
        assert main(["eval", name, "--suite", "suite.yaml"]) == ExitCode.DONE
        assert "Perplexity" in capsys.readouterr().out
    plain, around, merged = (measured(folder / "evaluations" / name) for name in ("model", "adapter", "merged"))
    assert [item[2] for item in around] == pytest.approx([item[2] for item in merged], rel=1e-5)
    assert [item[2] for item in around] != pytest.approx([item[2] for item in plain], rel=1e-3)
    assert (folder / "evaluations/adapter/report.html").is_file()


def test_typed_again(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is measured twice; other lengths are; another model is refused in the same folder."""
    typed = ["eval", "model", "--suite", "suite.yaml", "--output", "out"]
    assert main(typed) == ExitCode.DONE
    assert "measuring perplexity" in capsys.readouterr().err
    assert main(typed) == ExitCode.DONE
    assert "measuring" not in capsys.readouterr().err
    assert main([*typed, "--length", "24"]) == ExitCode.DONE
    assert {item[1] for item in measured(folder / "out")} == {24}
    typed[1] = "merged"
    assert main(typed) == ExitCode.RESUME
    assert "another model" in capsys.readouterr().err
    assert {item[1] for item in measured(folder / "out")} == {24}


def test_weights_that_are_not_finite(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is said, and no figure is made up."""
    broken = LlamaForCausalLM.from_pretrained(folder / "model")
    broken.lm_head.weight.data.fill_(float("nan"))
    broken.save_pretrained(folder / "merged")
    assert main(["eval", "merged", "--suite", "suite.yaml"]) == ExitCode.FAILED
    assert "nothing could be measured" in capsys.readouterr().err
    assert json.loads((folder / "evaluations/merged/run.json").read_text())["status"] == "failed"


@pytest.mark.parametrize(
    ("typed", "said", "code"),
    [
        (["nowhere", "--suite", "suite.yaml"], "no config can be made", ExitCode.RECIPE),
        (["model", "--suite", "suite.yaml", "--length", "5000"], "5000", ExitCode.DATA),
        (["model", "--suite", "suite.yaml", "--output", "model"], "holds", ExitCode.RESUME),
    ],
)
def test_mistakes(folder: Path, capsys: pytest.CaptureFixture[str], typed: list[str], said: str, code: int) -> None:
    """One message, the documented exit code, and nothing written."""
    before = sorted(folder.rglob("*"))
    assert main(["eval", *typed]) == code
    message = capsys.readouterr().err
    assert said in message
    assert "Traceback" not in message
    assert [path for path in sorted(folder.rglob("*")) if path not in before and path.suffix == ".json"] == []


def test_two_processes_share_the_work(folder: Path) -> None:
    """The figures of two processes are those of one, and each measured a part."""
    assert main(["eval", "model", "--suite", "suite.yaml", "--output", "one"]) == ExitCode.DONE
    torchrun = Path(sys.executable).parent / "torchrun"
    line = [str(torchrun), "--nproc-per-node", "2", "-m", "ctxkit", "eval", "model", "--suite", "suite.yaml"]
    done = subprocess.run(
        [*line, "--output", "two"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert done.returncode == ExitCode.DONE, done.stderr
    assert done.stdout.count("results:") == 1
    assert measured(folder / "two") == measured(folder / "one")
