"""The recipe for repositories on a small one: files, histories and questions become rows that train in three phases."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from datasets import Dataset
from transformers import AutoTokenizer

from ctxkit.train import run
from ctxkit.train.rows import open_rows
from tests.integration.conftest import ROOT
from tests.integration.histories import MODULES, git, small_repository
from tests.integration.micro import losses

pytestmark = [pytest.mark.torch, pytest.mark.slow]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package of modules that import each other, its tests, and a history of every file."""
    return small_repository(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def trained(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny twin, run from within the repository."""
    directory = tmp_path_factory.mktemp("phases") / "run"
    before = Path.cwd()
    os.chdir(repository)
    try:
        sets = ("train.max_steps=4", "train.eval_steps=4", "train.logging_steps=1")
        aside = tuple(f"stages.{stage}.data.eval.share=0.3" for stage in ("general", "long", "extended"))
        return run(ROOT / "recipes/tiny_repo_phases.yaml", directory, (*sets, *aside)).path
    finally:
        os.chdir(before)


def rows(trained: Path, stage: str) -> Dataset:
    """The rows that a stage trained on."""
    key = json.loads((trained / "data.json").read_text())["stages"][stage]
    prepared = open_rows(trained / "data" / key)
    assert prepared is not None
    return prepared.train


def test_three_phases_train(trained: Path) -> None:
    """Every phase trains and is evaluated on documents set aside; the later ones hand on an adapter."""
    steps = losses(trained)
    assert {stage for stage, _ in steps} == {"general", "long", "extended"}
    evaluated = [line for line in (trained / "metrics.jsonl").read_text().splitlines() if "eval_loss" in line]
    assert len(evaluated) == 3
    assert (trained / "stages/general/model/model.safetensors").is_file()
    assert (trained / "stages/extended/model/adapter_model.safetensors").is_file()
    assert (trained / "evals/extended/0-snippet_qa.json").is_file()


def test_rows_grow_with_the_phase(trained: Path) -> None:
    """Each phase has rows up to its own length, packed full, and keeps what is short."""
    for stage, length in (("general", 256), ("long", 512), ("extended", 1024)):
        lengths = rows(trained, stage).data.column("length").to_pylist()
        assert max(lengths) <= length
        assert max(lengths) > length // 2


def test_files_come_after_what_they_import(trained: Path) -> None:
    """In the longest phase a file stands behind the one that it imports, and tests come last of all."""
    tokenizer = AutoTokenizer.from_pretrained(trained / "tokenizer")
    start = tokenizer.convert_tokens_to_ids("<|FILE_START|>")
    texts = [tokenizer.decode(row["input_ids"]) for row in rows(trained, "extended") if start in row["input_ids"]]
    order = [line.split()[1] for text in texts for line in text.splitlines() if line.startswith("<|FILE_START|>")]
    first = {path: place for place, path in reversed(list(enumerate(order)))}
    parts = [first[f"package/part{number}.py"] for number in range(MODULES) if f"package/part{number}.py" in first]
    assert len(parts) >= 2  # the others are set aside
    assert parts == sorted(parts)


def test_histories_hold_the_texts_of_git(trained: Path, repository: Path) -> None:
    """The first version in a chain is what git shows, the ones after it are diffs that add the new function."""
    tokenizer = AutoTokenizer.from_pretrained(trained / "tokenizer")
    texts = [tokenizer.decode(row["input_ids"]) for row in rows(trained, "extended")]
    root = git(repository, "rev-list", "--max-parents=0", "HEAD").strip()
    trained_on = [n for n in range(MODULES) if any(f" package/part{n}.py Version 0" in text for text in texts)]
    assert trained_on  # the others are set aside
    for number in trained_on:
        first = git(repository, "show", f"{root}:package/part{number}.py")
        assert any(first in text for text in texts)
        assert any(f"+def more{number}_4(value):" in text for text in texts)


def test_every_token_is_accounted_for(trained: Path) -> None:
    """The ledgers of every phase add up, and nothing of the small repository was left unread."""
    for key in set(json.loads((trained / "data.json").read_text())["stages"].values()):
        for source in json.loads((trained / "data" / key / "manifest.json").read_text())["sources"]:
            spent = source["tokens_kept"] + sum(source["dropped"].values()) + source["tokens_unused"]
            assert source["tokens_read"] == spent + source["tokens_eval"]
            rows_hold = source["tokens_kept"] + source["tokens_repeated"] + source["tokens_inserted"]
            assert rows_hold == source["tokens_trained"] + source["tokens_masked"]
