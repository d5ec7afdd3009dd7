"""Exact counts of `ctxkit data --inspect --tokenizer`, against what preparing the proposed section counts."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from ctxkit import inspection
from ctxkit.cli import main
from ctxkit.errors import DataError
from ctxkit.registry import Registry
from ctxkit.train.counting import TokenCounter

pytestmark = [pytest.mark.torch, pytest.mark.slow]

RECIPE = """\
name: demo
model:
  config: {model_type: llama, hidden_size: 32, intermediate_size: 64, num_hidden_layers: 1, num_attention_heads: 2,
           num_key_value_heads: 2, max_position_embeddings: 131072}
tokenizer: {train: {vocab_size: 400, bos_token: <s>}}
train: {max_steps: 2}
"""


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A repository of forty modules, one of them empty, one longer than a block of the encoder; some change twice."""
    monkeypatch.chdir(tmp_path)
    git("init", "--quiet", "made")
    for version in range(3):
        for number in range(0, 40, version + 1):
            text = "".join(
                f"def f{line}_{version}():\n    return {line} * {number}\n\n\n" for line in range(10 * number)
            )
            Path(f"made/module_{number}.py").write_text(text * (45 if number == 39 and not version else 1))
        git("-C", "made", "add", "--all")
        git("-C", "made", "-c", "user.name=A", "-c", "user.email=a@b.c", "commit", "--quiet", "--message", "change")
    return "made"


def git(*arguments: str) -> None:
    """Run git."""
    subprocess.run(["git", *arguments], check=True)


def test_counts_are_those_of_training(repository: str, registry: Registry, capsys: pytest.CaptureFixture[str]) -> None:
    """Tokens of all documents, lengths and special tokens included, and about as many examples as were said."""
    estimated = inspection.inspect(repository, registry)
    Path("recipe.yaml").write_text(RECIPE + estimated.data)
    assert main(["data", "recipe.yaml", "--run-dir", "run"]) == 0
    capsys.readouterr()
    assert main(["data", "--inspect", repository, "--tokenizer", "run/tokenizer", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["tokens"] == "counted by run/tokenizer"

    (manifest,) = (json.loads(file.read_text()) for file in Path("run/data").glob("*/manifest.json"))
    (source,) = manifest["sources"]
    assert found["documents"]["lengths"]["total"] == source["tokens_read"]
    assert found["documents"]["count"] == source["documents"] == 40
    said = found["documents"]["examples"][str(manifest["length"])]
    assert said == pytest.approx(manifest["train"]["rows"], rel=0.1)


def test_examples_of_chains(repository: str, registry: Registry) -> None:
    """As many examples of a chain of commits as were said, within a tenth."""
    only = {"commit_chain": registry.components["chunker"]["commit_chain"]}
    histories = Registry({**registry.components, "chunker": only})
    Path("recipe.yaml").write_text(RECIPE + inspection.inspect(repository, histories).data)
    assert main(["data", "recipe.yaml", "--run-dir", "run"]) == 0
    found = inspection.inspect(repository, histories, TokenCounter("run/tokenizer"))
    (manifest,) = (json.loads(file.read_text()) for file in Path("run/data").glob("*/manifest.json"))
    assert found.history.lengths.total == manifest["sources"][0]["tokens_read"]
    assert found.history.examples[manifest["length"]] == pytest.approx(manifest["train"]["rows"], rel=0.1)


def test_no_tokenizer(tmp_path: Path) -> None:
    """A tokenizer that cannot be loaded is named."""
    with pytest.raises(DataError, match=r"the tokenizer .*/nowhere cannot be loaded"):
        TokenCounter(str(tmp_path / "nowhere"))
