"""Prepared data within a run: continued, refused, evaluated on, and with the special tokens that a chunker wants."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from transformers import AutoModelForCausalLM, AutoTokenizer

from ctxkit import checks
from ctxkit.cli import cli
from ctxkit.errors import ExitCode, RecipeError, ResumeError
from ctxkit.host import Host
from ctxkit.registry import collect
from ctxkit.rundir import RunDirectory
from ctxkit.spec import Chunk, ChunkerOptions, Context, EncodedDocument, Span, hookimpl
from ctxkit.train import prepare_located, run, run_located
from ctxkit.train import tokens as tokens_module
from ctxkit.train.rows import open_rows
from tests.integration.micro import RECIPE, losses, weights
from tests.unit.train.builders import contents

pytestmark = pytest.mark.torch

HEAD = RECIPE[: RECIPE.index("evals:")]
STAGE = """\
data: {{sources: [{{kind: files, paths: ["{texts}/*.txt"]}}], chunker: {{kind: overlap, length: 32}}{data}}}
stages: [{{name: base, train: {{max_steps: 4{train}}}}}]
"""
WORDS = "the quick brown fox jumps over the lazy dog and runs away "


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """Forty small files."""
    folder = tmp_path / "texts"
    folder.mkdir()
    for number in range(40):
        (folder / f"{number:02}.txt").write_text(WORDS[number % 20 :] + str(number))
    return folder


Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path, texts: Path) -> Write:
    """Return a function that writes a recipe of one stage on those files."""

    def written(data: str = "", train: str = "") -> Path:
        file = tmp_path / "recipe.yaml"
        file.write_text(HEAD + STAGE.format(texts=texts, data=data, train=train))
        return file

    return written


def prepared(recipe: Path, directory: Path, *sets: str) -> None:
    """Prepare the data of a recipe as `ctxkit data` does."""
    host = Host()
    prepare_located(checks.load(recipe, collect(host), host, sets), RunDirectory(directory))


def rewound(directory: Path) -> None:
    """Take a finished run back to its checkpoint 2."""
    stage = directory / "stages/base"
    for path in (stage / "model", stage / "checkpoints/checkpoint-4"):
        shutil.rmtree(path)
    for path in (stage / "stage.json", stage / "finished"):
        path.unlink()


def test_checkpoint_of_other_data_is_refused(
    write: Write, texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file that changed in between gives other rows: exit code 4, and once it is back the run goes on, exactly."""
    recipe = write()
    run(recipe, tmp_path / "run")
    before, trained = losses(tmp_path / "run"), weights(tmp_path / "run/stages/base/model")
    rewound(tmp_path / "run")
    file = texts / "07.txt"
    was, times = file.read_text(), file.stat()
    file.write_text("something else altogether, and longer")
    with pytest.raises(ResumeError, match="was made with other data: the files") as caught:
        run(recipe, tmp_path / "run")
    assert caught.value.exit_code == ExitCode.RESUME == 4
    assert (tmp_path / "run/stages/base/checkpoints/checkpoint-2").exists(), "nothing of it is lost"
    file.write_text(was)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    run(recipe, tmp_path / "run")
    assert "continuing from checkpoint-2" in capsys.readouterr().err
    assert losses(tmp_path / "run") == before
    after = weights(tmp_path / "run/stages/base/model")
    assert all(torch.equal(after[name], trained[name]) for name in trained)


def test_damaged_data_is_prepared_again_and_the_run_goes_on(write: Write, tmp_path: Path) -> None:
    """Rows that a failing disk altered are made anew under the same name, so the checkpoint stays good."""
    recipe = write(data=", packing: {}")
    run(recipe, tmp_path / "run")
    before, data = losses(tmp_path / "run"), contents(tmp_path / "run/data")
    rewound(tmp_path / "run")
    for file in (tmp_path / "run/data").rglob("*.bin"):
        file.write_bytes(b"x" + file.read_bytes()[1:])
    run(recipe, tmp_path / "run")
    assert losses(tmp_path / "run") == before
    assert contents(tmp_path / "run/data") == data


def test_directory_of_prepared_data_accepts_another_recipe(write: Write, tmp_path: Path) -> None:
    """`ctxkit data`, a change, `ctxkit data` again, `ctxkit run`: nothing was trained, so nothing is in the way."""
    directory = tmp_path / "run"
    prepared(write(), directory)
    assert not (directory / "stages").exists()
    prepared(write(), directory, "data.chunker.length=16", "tokenizer.train.vocab_size=300")
    index = json.loads((directory / "data.json").read_text())["stages"]
    assert open_rows(directory / "data" / index["base"]).manifest["length"] == 16
    assert len(AutoTokenizer.from_pretrained(directory / "tokenizer")) == 300
    assert len(list((directory / "data").glob("*/manifest.json"))) == 2
    sets = ["data.chunker.length=16", "tokenizer.train.vocab_size=300"]
    run(write(), directory, sets)
    with pytest.raises(ResumeError, match=r"data\.chunker\.length: 16 -> 8"):
        prepared(write(), directory, "data.chunker.length=8", *sets[1:])


def test_run_finds_what_was_prepared(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After `ctxkit data` a run neither tokenises nor writes any row."""
    prepared(write(), tmp_path / "run")
    before = contents(tmp_path / "run/data")
    monkeypatch.setattr(tokens_module.TokenStore, "append_ids", None)
    run(write(), tmp_path / "run")
    assert contents(tmp_path / "run/data") == before


def test_rows_do_not_depend_on_how_they_are_batched(write: Write, tmp_path: Path) -> None:
    """Batch size, accumulation and processes change no byte of the prepared data."""
    data = ", packing: {length: 96}, eval: {share: 0.2}"
    for name, sets in {
        "one": (),
        "many": ("train.per_device_train_batch_size=1", "train.gradient_accumulation_steps=8"),
        "launched": ("launch.num_processes=8", "train.per_device_eval_batch_size=3"),
    }.items():
        prepared(write(data), tmp_path / name, *sets)
    found = [contents(tmp_path / name / "data") for name in ("one", "many", "launched")]
    assert found[0] == found[1] == found[2]
    assert len(found[0]) > 6


def test_evaluation_without_documents_is_a_fault_of_the_recipe(write: Write) -> None:
    """It is found before anything is read, at its place, with what to write."""
    host = Host()
    with pytest.raises(RecipeError) as caught:
        checks.load(write(train=", eval_strategy: steps"), collect(host), host)
    (fault,) = caught.value.faults
    assert fault.path[-2:] == ("train", "eval_strategy")
    assert "sets none aside" in fault.message
    assert "data.eval" in fault.hint


@pytest.mark.parametrize("packing", ["", ", packing: {length: 96}"])
def test_evaluation_loss_is_logged_and_right(packing: str, write: Write, tmp_path: Path) -> None:
    """`eval_strategy: steps` logs the loss on the documents set aside: that of the saved model, each row alone."""
    settings = ", eval_strategy: steps, eval_steps: 2, per_device_eval_batch_size: 64"
    directory = run(write(f", eval: {{share: 0.3}}{packing}", settings), tmp_path / "run")
    lines = [json.loads(line) for line in directory.metrics.read_text().splitlines()]
    logged = {line["step"]: line["eval_loss"] for line in lines if "eval_loss" in line}
    assert set(logged) == {2, 4}
    key = json.loads(directory.data_index.read_text())["stages"]["base"]
    rows = open_rows(directory.data(key)).eval
    model = AutoModelForCausalLM.from_pretrained(directory.model("base")).eval()
    assert logged[4] == pytest.approx(loss_alone(model, rows), abs=1e-4)


def loss_alone(model: Any, rows: Iterable[dict[str, Any]]) -> float:
    """Return the mean token loss over rows, every chunk of a packed one run alone."""
    total, count = 0.0, 0
    for row in rows:
        edges = np.cumsum([0, *row.get("seq_lengths", [len(row["input_ids"])])])
        for start, end in pairwise(edges):
            ids = torch.tensor(row["input_ids"][start:end])[None]
            with torch.no_grad():
                total += float(model(input_ids=ids, labels=ids).loss) * (end - start - 1)
            count += int(end - start - 1)
    return total / count


class MarkedOptions(ChunkerOptions):
    """Puts a special token before each document."""

    kind: Literal["marked"]
    """Puts a special token before each document."""

    def special_tokens(self, vocabulary: Any) -> tuple[str, ...]:
        """Return the mark, and a token that every tokenizer of these tests has."""
        return ("<|mark|>", "<|endoftext|>")

    def build(self, context: Context) -> Any:
        """Return the chunker."""
        mark = context.tokenizer.convert_tokens_to_ids("<|mark|>")

        def chunks(documents: Iterable[EncodedDocument]) -> Iterator[Chunk]:
            for document in documents:
                count = len(document.input_ids)
                ids = np.concatenate([np.array([mark], dtype=np.int32), document.input_ids])
                yield Chunk(ids, (Span(document.document.id, 0, count, 1),))

        return chunks


class MarkedPlugin:
    """Brings the chunker."""

    @hookimpl
    def ctxkit_components(self) -> list[type[ChunkerOptions]]:
        """Return it."""
        return [MarkedOptions]


def run_marked(recipe: Path, directory: Path, *sets: str) -> RunDirectory:
    """Run a recipe with the plugin."""
    host = Host()
    host.register(MarkedPlugin(), "marked")
    located = checks.load(recipe, collect(host), host, ("data.chunker={kind: marked, length: 128}", *sets))
    return run_located(located, host, RunDirectory(directory), ["test"])


@pytest.mark.parametrize("pretrained", [False, True], ids=["fresh model", "pretrained model"])
def test_special_tokens_of_a_chunker(
    pretrained: bool, write: Write, texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The tokenizer gets the one it lacks, the model an embedding, the saved model both; texts cannot forge it."""
    for file in texts.glob("*.txt"):
        file.write_text("forged <|mark|> here")
    sets = ["train.max_steps=1"]
    if pretrained:
        (texts / "plain.txt").write_text("plain words alone")
        base = run(write(), tmp_path / "base", ["train.max_steps=1"]).model("base")
        assert AutoModelForCausalLM.from_pretrained(base).config.vocab_size == 258
        sets += [f"model={{name_or_path: {base}}}", "tokenizer={}"]
    directory = run_marked(write(), tmp_path / "run", *sets)
    assert "the tokenizer gets 1 special tokens that the chunker inserts: <|mark|>" in capsys.readouterr().err
    tokenizer = AutoTokenizer.from_pretrained(directory.model("base"))
    model = AutoModelForCausalLM.from_pretrained(directory.model("base"))
    mark = tokenizer.convert_tokens_to_ids("<|mark|>")
    assert (mark, len(tokenizer), model.config.vocab_size) == (258, 259, 259)
    assert model.get_input_embeddings().weight.shape[0] == 259
    key = json.loads(directory.data_index.read_text())["stages"]["base"]
    for row in open_rows(directory.data(key)).train:
        ids = row["input_ids"].tolist()
        assert (ids[0], ids.count(mark)) == (mark, 1), "only where the chunker put it"
    assert open_rows(directory.data(key)).manifest["sources"][0]["special_token_texts"] >= 40
    assert torch.isfinite(model(torch.tensor([[mark, 1, 2]])).logits).all()


def test_shards_on_the_command_line_give_the_data_of_one_process(write: Write, tmp_path: Path) -> None:
    """`ctxkit data --shard i/n` for each part, then `ctxkit data`: the bytes of `ctxkit data` alone."""
    recipe = str(write(", packing: {}, eval: {share: 0.2}"))
    for name, shards in {"alone": (), "parts": ("1/2", "0/2")}.items():
        lines = [["--shard", shard] for shard in shards] + [[]]
        for line in lines:
            done = CliRunner().invoke(cli, ["data", recipe, "--run-dir", str(tmp_path / name), *line])
            assert done.exit_code == 0, done.output
    assert contents(tmp_path / "parts/data") == contents(tmp_path / "alone/data")
    assert contents(tmp_path / "parts/tokenizer") == contents(tmp_path / "alone/tokenizer")
