"""The search for rotary factors: what is measured, and that a stopped search ends as it would have."""

from __future__ import annotations

import copy
import functools
import json
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from ctxkit import checks
from ctxkit.cli import main
from ctxkit.errors import CtxkitError, ExitCode
from ctxkit.host import Host
from ctxkit.reading import Located
from ctxkit.registry import Registry
from ctxkit.train import documents as train_documents
from ctxkit.train import likelihood, measuring, search, search_inputs
from ctxkit.train.encoding import Encoder
from ctxkit.train.rope import ExtendedRope
from ctxkit_rope.longrope import LongropeScaler
from tests.unit.train.builders import byte_tokenizer, written

pytestmark = pytest.mark.torch

WINDOW = 32
SIZES: dict[str, Any] = {
    "vocab_size": 258,
    "hidden_size": 32,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": WINDOW,
    "pad_token_id": 0,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "gemma2": {"head_dim": 16, "final_logit_softcapping": 2.0, "sliding_window": 16},
    "gemma3_text": {"head_dim": 16, "sliding_window": 16, "layer_types": ["sliding_attention", "full_attention"]},
    "cohere": {"logit_scale": 0.3},
    "granite": {"logits_scaling": 3.0},
    "phi": {"partial_rotary_factor": 0.5},
    "phi3": {},
    "qwen3_moe": {"head_dim": 16, "num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 8},
}


def sharp(family: str, config: Any = None) -> Any:
    """Return a model of random weights whose attention is sharp, so that another rotation shows."""
    torch.manual_seed(0)
    config = config or AutoConfig.for_model(family, **SIZES, **FAMILIES[family])
    model: Any = AutoModelForCausalLM.from_config(config).eval()
    for weight in model.parameters():
        weight.data.mul_(4)
    return model


def documents(length: int) -> tuple[np.ndarray, ...]:
    """Return two documents of random ids."""
    generator = np.random.default_rng(0)
    return tuple(generator.integers(1, 258, length).astype(np.int32) for _ in range(2))


@pytest.mark.parametrize("family", FAMILIES)
def test_pieces_are_the_whole(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Logits in pieces give the loss that transformers computes from all of them, caps and scales included."""
    model, texts = sharp(family), documents(40)
    rows = torch.tensor(np.array(texts), dtype=torch.long)
    with torch.no_grad():
        expected = float(model(input_ids=rows, labels=rows, use_cache=False).loss.exp())
    calls = _counted(monkeypatch, type(model.get_decoder()))
    monkeypatch.setattr(likelihood, "PIECE", 7)
    assert likelihood.perplexity(model, texts, 40) == pytest.approx(expected, rel=1e-4)
    assert calls == [1, 1]  # once a document, however many pieces
    assert "forward" not in vars(model.get_decoder())


def _counted(monkeypatch: pytest.MonkeyPatch, cls: Any) -> list[int]:
    forward, calls = cls.forward, []

    def counted(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        return forward(*args, **kwargs)

    monkeypatch.setattr(cls, "forward", counted)
    return calls


def test_what_is_not_finite_is_infinite() -> None:
    """A perplexity that overflows, or that is none, is worse than all others."""
    model = sharp("llama")
    model.lm_head.weight.data.mul_(1e6)
    assert likelihood.perplexity(model, documents(8), 8) == float("inf")
    model.lm_head.weight.data[0] = float("nan")
    assert likelihood.perplexity(model, documents(8), 8) == float("inf")


@pytest.mark.parametrize("family", ["llama", "gemma3_text", "phi", "phi3"])
def test_a_live_model_becomes_the_scaled_one(family: str) -> None:
    """With its rotary modules made anew it is the model that is made from the scaled config."""
    model = sharp(family)
    base = copy.deepcopy(model.config)
    pairs = 4 if family == "phi" else 8
    long = tuple(np.linspace(1.2, 4, pairs))
    scaler = LongropeScaler(original_max_position_embeddings=WINDOW, target_length=128, long_factor=long)
    config = copy.deepcopy(base)
    ExtendedRope(scaler, WINDOW, 128, base).apply(config)
    ids = torch.from_numpy(documents(100)[0].astype(np.int64))[None]
    with torch.no_grad():
        before = model(input_ids=ids).logits
        measuring.rotate(model, config)
        after = model(input_ids=ids).logits
        expected = sharp(family, config)(input_ids=ids).logits
    assert torch.equal(after, expected)
    assert not torch.allclose(before, after, atol=1e-2)


class Bench:
    """A folder with a model and texts, a recipe that searches with them, and a count of what is measured."""

    def __init__(self, folder: Path, host: Host, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.host, self.registry = folder, host, registry
        tokenizer = byte_tokenizer()
        self.save("llama")
        tokenizer.save_pretrained(folder / "model")
        for number, length in enumerate((90, 10, 70, 64, 80)):
            (folder / f"{number}.txt").write_text(written(number, length))
        self.measured = 0
        self.meanwhile: Callable[[int], None] = lambda _: None
        monkeypatch.setattr(measuring, "perplexity", self._perplexity)
        # What takes longer than a small search: waiting for the disk, and trying the tokenizer.
        monkeypatch.setattr(os, "fsync", lambda _: None)
        monkeypatch.setattr(search_inputs, "make_tokenizer", lambda *_: tokenizer)
        monkeypatch.setattr(train_documents, "Encoder", functools.cache(Encoder))

    def save(self, family: str) -> None:
        sharp(family).save_pretrained(self.folder / "model")

    def _perplexity(self, *args: Any) -> float:
        self.measured += 1
        self.meanwhile(self.measured)
        return likelihood.perplexity(*args)

    @property
    def result(self) -> Path:
        return self.folder / "factors.json"

    @property
    def journal(self) -> Path:
        return self.folder / "factors.json.journal.jsonl"

    def recipe(self) -> Path:
        file = self.folder / "recipe.yaml"
        file.write_text(f"""\
name: demo
model: {{name_or_path: {self.folder / "model"}}}
rope:
  kind: longrope
  target_length: 64
  factors: {self.result}
  search:
    source: {{kind: files, paths: ["{self.folder}/*.txt"]}}
    documents: 3
    population: 6
    iterations: 2
    mutations: 2
    crossovers: 2
    parents: 4
data:
  sources: [{{kind: files, paths: ["{self.folder}/*.txt"]}}]
  chunker: {{kind: overlap, length: 64}}
train: {{max_steps: 5, bf16: false}}
""")
        return file

    def located(self, *sets: str) -> Located:
        return checks.load(self.recipe(), self.registry, self.host, sets, unsearched=True)

    def search(self, *sets: str, stage: str | None = None) -> bytes:
        self.measured = 0
        return search.search_located(self.located(*sets), stage).read_bytes()

    def refused(self, *sets: str, stage: str | None = None) -> CtxkitError:
        with pytest.raises(CtxkitError) as caught:
            self.search(*sets, stage=stage)
        return caught.value


@pytest.fixture
def bench(tmp_path: Path, host: Host, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """Return a folder in which a search takes a second."""
    return Bench(tmp_path, host, registry, monkeypatch)


def test_the_result(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """It says what was found and what it was found with, and its perplexity is that of the model so scaled."""
    found = json.loads(bench.search())
    assert "measured on 3 documents of 64 tokens; passed over: 1 shorter" in capsys.readouterr().err
    assert found["target_length"] == 64
    assert found["evaluations"] == bench.measured == 6 + 2 * 4
    assert found["perplexity"]["searched"] <= min(found["perplexity"].values())
    made_by = found["made_by"]
    assert made_by["rope"]["search"]["seed"] == 0
    assert (made_by["original_window"], made_by["model"]["dtype"]) == (WINDOW, "float32")
    long, short = (tuple(found[f"{name}_factor"]) for name in ("long", "short"))
    scaler = LongropeScaler(
        original_max_position_embeddings=WINDOW, target_length=64, long_factor=long, short_factor=short
    )
    base = AutoConfig.from_pretrained(bench.folder / "model")
    config = copy.deepcopy(base)
    scaler(config)
    model = AutoModelForCausalLM.from_pretrained(bench.folder / "model", config=config)
    texts = [bench.folder / f"{number}.txt" for number in (0, 2, 3)]
    ids = [np.array(byte_tokenizer()(text.read_text())["input_ids"][:64], dtype=np.int32) for text in texts]
    assert likelihood.perplexity(model, ids, 64) == found["perplexity"]["searched"]


@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "llama"])
def test_every_architecture(bench: Bench, family: str) -> None:
    """Nested parameters, partial rotation, caps, experts, a type that takes longrope alone: all of it is searched."""
    bench.save(family)
    found = json.loads(bench.search("rope.search.population=4", "rope.search.iterations=1"))
    assert len(found["long_factor"]) == (4 if family == "phi" else 8)
    assert found["perplexity"]["searched"] <= min(found["perplexity"].values())


def test_a_killed_search_ends_as_it_would_have(bench: Bench) -> None:
    """Wherever the journal was cut, in the middle of a line too, the rest alone is measured and every byte is equal."""
    whole = bench.search()
    journal, all_measured = bench.journal.read_bytes(), bench.measured
    places = [0, 20, journal.index(b"\n") + 1, len(journal) // 2, len(journal) - 1, len(journal)]
    for place in places:
        bench.result.unlink()
        bench.journal.write_bytes(journal[:place])
        known = max(journal[:place].count(b"\n") - 1, 0)
        assert bench.search() == whole
        assert bench.measured == all_measured - known
        assert bench.journal.read_bytes() == journal


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, ExitCode.PREEMPTED), (signal.SIGINT, ExitCode.INTERRUPTED)]
)
def test_a_stopped_search_goes_on(
    bench: Bench, number: signal.Signals, code: ExitCode, capsys: pytest.CaptureFixture[str]
) -> None:
    """It stops in the middle of a measurement, with the exit code of the signal, and nothing before is lost."""
    bench.meanwhile = lambda count: os.kill(os.getpid(), number) if count == 7 else None
    error = bench.refused()
    assert (error.exit_code, bench.measured, bench.result.exists()) == (code, 7, False)
    bench.meanwhile = lambda _: None
    stopped_and_continued = bench.search()
    assert bench.measured == 14 - 6
    assert "going on: 6 candidates were measured before" in capsys.readouterr().err
    bench.result.unlink()
    bench.journal.unlink()
    assert bench.search() == stopped_and_continued


def test_a_finished_search_is_recognised(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Typed again it says so, and loads no weights."""
    whole = bench.search()
    monkeypatch.setattr(search, "make_model", lambda _: pytest.fail("weights were loaded"))
    assert bench.search() == whole
    assert "is finished; nothing was searched again" in capsys.readouterr().err


def _other_model(bench: Bench) -> None:
    model = AutoModelForCausalLM.from_pretrained(bench.folder / "model")
    model.lm_head.weight.data += 1
    model.save_pretrained(bench.folder / "model")


@pytest.mark.parametrize(
    ("change", "sets", "said"),
    [
        (lambda _: None, ["rope.search.seed=1"], r"rope.search.seed: 0 -> 1"),
        (lambda _: None, ["rope.attention_factor=1.0"], r"rope.attention_factor: null -> 1.0"),
        (lambda _: None, ["model.dtype=bfloat16"], r"model.dtype: 'float32' -> 'bfloat16'"),
        (_other_model, [], r"model.content: '\w{16}' -> '\w{16}'"),
        (lambda bench: (bench.folder / "2.txt").write_text("x" * 99), [], r"documents: '\w{16}' -> '\w{16}'"),
    ],
    ids=["options", "rope", "dtype", "model", "documents"],
)
def test_another_search_is_refused(bench: Bench, change: Any, sets: list[str], said: str) -> None:
    """What was found or measured with other options, another model or other texts is not gone on with."""
    bench.search()
    kept = bench.journal.read_bytes()
    change(bench)
    finished = bench.refused(*sets)
    bench.result.unlink()
    for error in (finished, bench.refused(*sets)):
        assert error.exit_code == ExitCode.RESUME
        assert error.message.count(" -> ") == 1
        assert re.search(said, error.message)
    assert bench.measured == 0
    assert bench.journal.read_bytes() == kept


def test_a_moved_model_is_the_same(bench: Bench) -> None:
    """A folder is known by its content, wherever it lies."""
    whole = bench.search()
    (bench.folder / "model").rename(bench.folder / "moved")
    assert bench.search(f"model.name_or_path={bench.folder / 'moved'}") == whole


@pytest.mark.parametrize(
    ("sets", "stage", "code", "said"),
    [
        (["rope.search.documents=5"], None, ExitCode.DATA, "4 documents .* have 64 tokens; passed over: 1 shorter"),
        ([], "other", ExitCode.RECIPE, "stage other declares no search of its rope\nstages with a search: demo"),
        (["rope=null"], None, ExitCode.RECIPE, "no stage has a `rope` with a search"),
        (["model.name_or_path=nowhere"], None, ExitCode.RECIPE, "no folder of this name"),
        (["model.name_or_path=null", "model.config={model_type: llama}", "tokenizer={train: {vocab_size: 258}}"],
         None, ExitCode.RECIPE, "a fresh model has random weights"),
        (["model.adapter_name_or_path=somewhere"], None, ExitCode.RECIPE, "starts with an adapter beside it"),
        (["rope.target_length=null", "rope.factor=1", "data.chunker.length=32"],
         None, ExitCode.RECIPE, "factors are 1"),
    ],
)  # fmt: skip
def test_wrong_searches(bench: Bench, sets: list[str], stage: str | None, code: ExitCode, said: str) -> None:
    """What cannot be searched is said with the documented exit code."""
    error = bench.refused(*sets, stage=stage)
    assert error.exit_code == code
    assert re.search(said, str(error))


@pytest.mark.parametrize("text", ["nonsense\n", '{"key": 1}\n', "[]\n"])
def test_a_file_that_is_no_journal(bench: Bench, text: str) -> None:
    """It is refused and stays as it is."""
    bench.journal.write_text(text)
    assert "is no journal of a search" in bench.refused().message
    assert bench.journal.read_text() == text


def test_a_file_that_no_search_made(bench: Bench) -> None:
    """Factors that somebody wrote are never overwritten."""
    bench.result.write_text('{"long_factor": [1, 2, 3, 4, 5, 6, 7, 8]}')
    assert "is not the result of a search" in bench.refused().message


STRANGER = '''\
"""A rope whose theta is searched."""
import json
from pathlib import Path
from typing import Literal

from pydantic import Field

from ctxkit.spec import RopeFrequencies, RopeOptions, RopeSearch, SourceSlot, hookimpl


class Scaler:
    def __init__(self, theta):
        self.theta = theta

    def __call__(self, config):
        config.rope_parameters = {"rope_type": "default", "rope_theta": self.theta}
        config.max_position_embeddings = 64

    def frequencies(self, dim, rope_theta, length):
        return RopeFrequencies(tuple(self.theta ** (-i / dim) for i in range(0, dim, 2)))


class Tried(RopeOptions):
    """Theta, the best of some that are tried."""

    kind: Literal["tried"]
    thetas: tuple[float, ...] = Field(exclude=True)
    """Those tried."""
    source: SourceSlot = Field(exclude=True)
    """Texts."""
    file: str = Field(exclude=True)
    """The result."""

    def search_plan(self):
        given = {"thetas": self.thetas, "target_length": self.target_length}
        return RopeSearch(file=Path(self.file), option="file", source=self.source, documents=1, seed=0,
                          determined_by=given)

    def run_search(self, context):
        tried = {str(theta): context.measure(Scaler(theta), 64) for theta in self.thetas}
        return {"theta": min(tried, key=tried.get), "perplexity": tried}

    def build(self, context):
        return Scaler(json.loads(Path(self.file).read_text())["theta"])


@hookimpl
def ctxkit_components():
    return [Tried]
'''


def test_a_kind_of_a_stranger_is_searched(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """Another plugin's kind declares a search, and the command line runs it."""
    plugin = bench.folder / "tried.py"
    plugin.write_text(STRANGER)
    rope = {
        "kind": "tried", "thetas": [1e4, 1e5, 1e6], "target_length": 64, "file": str(bench.folder / "theta.json"),
        "source": {"kind": "files", "paths": [f"{bench.folder}/*.txt"]},
    }  # fmt: skip
    recipe = str(bench.recipe())
    code = main(["search-rope", recipe, "--plugin", str(plugin), "--set", f"rope={json.dumps(rope)}"])
    printed = capsys.readouterr().out
    found = json.loads((bench.folder / "theta.json").read_text())
    assert code == 0
    assert [line.partition(":")[0] for line in printed.splitlines()] == ["10000.0", "100000.0", "1000000.0", "factors"]
    assert found["perplexity"][found["theta"]] == min(found["perplexity"].values())
    assert found["evaluations"] == 3


def test_a_model_that_does_not_rotate_so_is_refused(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every candidate is read back from the live model before it is measured."""
    monkeypatch.setattr(measuring, "rotate", lambda *_: None)
    assert "does not have the rotary frequencies" in bench.refused().message


def test_a_failing_model_is_no_fault_of_the_plugin(bench: Bench) -> None:
    """What the model says is said as such."""

    def fail(_: int) -> None:
        raise RuntimeError("out of memory")

    bench.meanwhile = fail
    assert "the model cannot be measured at 64 tokens: RuntimeError: out of memory" in bench.refused().message


def test_two_searches_need_a_name(bench: Bench, host: Host, registry: Registry) -> None:
    """Of several stages with files of their own one is chosen."""
    other = bench.folder / "other.json"
    stages = [{"name": "a"}, {"name": "b", "rope": {"factors": str(other)}}]
    sets = (f"stages={json.dumps(stages)}",)
    assert "a, b; choose with --stage" in bench.refused(*sets).hint
    search.search_located(bench.located(*sets), "b")
    assert other.exists()
    assert not bench.result.exists()


@pytest.mark.parametrize("stage", [None, "b"])
def test_one_file_for_two_searches_is_refused(bench: Bench, stage: str | None) -> None:
    """Stages may share one search, but not one file for two: the second would never be run."""
    stages = [{"name": "a"}, {"name": "b", "rope": {"target_length": 128}}]
    error = bench.refused(f"stages={json.dumps(stages)}", stage=stage)
    assert (error.exit_code, error.hint) == (ExitCode.RECIPE, "name a file of its own for each")
    assert error.message == f"stages a and b name one file for the results of two searches: {bench.result}"


def test_stages_with_the_very_same_search_need_no_name(bench: Bench) -> None:
    """One result does for both, since both are measured on the model that the recipe starts with."""
    assert json.loads(bench.search('stages=[{"name": "a"}, {"name": "b"}]'))["target_length"] == 64


def test_a_search_for_another_window_is_what_search_rope_says(bench: Bench) -> None:
    """A result of a search that the recipe changed since is named with what differs, and not refused while reading."""
    bench.search()
    assert "rope.target_length: 64 -> 60" in bench.refused("rope.target_length=60", "data.chunker.length=60").message


def test_files_that_differ_in_their_suffix_have_journals_of_their_own() -> None:
    """No search goes on in the journal of another."""
    names = [search.journal_of(Path(name)).name for name in ("x.json", "x.long", "x")]
    assert names == ["x.json.journal.jsonl", "x.long.journal.jsonl", "x.journal.jsonl"]
