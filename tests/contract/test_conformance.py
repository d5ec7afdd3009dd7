"""Our own components pass the checks that everyone's must, and the checks find what is wrong."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import jsonschema
import numpy as np
import pytest
from pydantic import ConfigDict, Field

from ctxkit.host import Host
from ctxkit.registry import Registry, collect
from ctxkit.schema import recipe_schema
from ctxkit.spec import (
    SLOTS,
    Chunk,
    Component,
    Context,
    Document,
    EncodedDocument,
    FilterOptions,
    Phase,
    RowTable,
    Span,
    TrainingPlan,
)
from ctxkit.testing import Drops, check_chunker, check_curriculum, check_options
from tests.unit.plugins.chunkers_bytes import Bytes

INSTALLED = collect(Host()).components
FILES = {"kind": "files", "paths": ["*.txt"]}
EXAMPLES: dict[tuple[str, str], dict[str, Any]] = {
    ("source", "files"): {**FILES, "exclude": ["a"], "weight": 0.5, "errors": "skip"},
    ("source", "git"): {"kind": "git", "path": ".", "include": ["**/*.py"], "errors": "replace"},
    ("source", "git_history"): {"kind": "git_history", "path": ".", "form": "versions", "min_versions": 3},
    ("source", "hub"): {"kind": "hub", "path": "json", "data_files": ["a.jsonl"], "streaming": True},
    ("source", "key_recall"): {"kind": "key_recall", "haystack": FILES, "documents": 3, "length": 99},
    ("source", "lotka_volterra"): {"kind": "lotka_volterra", "split": "held_out", "growth": [0.5, 1], "noise": 0.1},
    ("source", "repeats"): {"kind": "repeats", "documents": 3, "length": 99},
    ("filter", "exact_duplicates"): {"kind": "exact_duplicates"},
    ("filter", "leakage"): {"kind": "leakage", "against": [FILES], "ngram": 20},
    ("filter", "near_duplicates"): {"kind": "near_duplicates", "threshold": 0.9},
    ("filter", "repetition"): {"kind": "repetition", "method": "window", "window": 20},
    ("filter", "secrets"): {"kind": "secrets", "kinds": ["aws"]},
    ("filter", "tokens"): {"kind": "tokens", "min_tokens": 2, "max_tokens": 9},
    ("filter", "truncation"): {"kind": "truncation", "patterns": ["cut here"], "code_fences": False},
    ("filter", "length"): {"kind": "length", "min_characters": 3, "max_characters": 9},
    ("chunker", "commit_chain"): {"kind": "commit_chain", "length": 4096, "overlap": 0.25, "format": "starcoder"},
    ("chunker", "multi_file"): {"kind": "multi_file", "length": 4096, "order": "related", "file_end": "<end>"},
    ("chunker", "overlap"): {"kind": "overlap", "length": 8, "overlap": 0.25},
    ("chunker", "paragraph"): {"kind": "paragraph", "length": 8, "min_length": 4, "code": "auto"},
    ("chunker", "pose"): {"kind": "pose", "length": 8, "target_length": 64, "parts": 3},
    ("chunker", "snippet_qa"): {"kind": "snippet_qa", "length": 4096, "train_on": "all", "snippet_length": 99},
    ("patch", "tiled_mlp"): {"kind": "tiled_mlp", "tile": 2048},
    ("rope", "dynamic"): {"kind": "dynamic", "factor": 2},
    ("rope", "linear"): {"kind": "linear", "factor": 2},
    ("rope", "llama3"): {"kind": "llama3", "factor": 2, "high_freq_factor": 8},
    ("rope", "longrope"): {"kind": "longrope", "factor": 2, "long_factor": [1, 2.5], "attention_factor": 1.1},
    ("rope", "ntk"): {"kind": "ntk", "target_length": 256},
    ("rope", "theta"): {"kind": "theta", "target_length": 256, "rope_theta": 8_000_000},
    ("rope", "yarn"): {"kind": "yarn", "target_length": 256, "attention_factor": 1.1},
    ("curriculum", "grow"): {"kind": "grow", "start": 128, "end": 999, "rule": "sqrt"},
    ("curriculum", "mixture"): {"kind": "mixture", "bands": [0, 9], "points": [{"at": 0, "shares": [1, 0.5]}]},
    ("curriculum", "phases"): {
        "kind": "phases",
        "phases": [{"name": "a", "epochs": 2, "least": 3, "most": 9, "difficulty": ["easy"], "learning_rate": 0.5}],
    },
    ("eval", "forecast"): {"kind": "forecast", "source": FILES, "lengths": [64, 128], "horizon": 5},
    ("eval", "long_qa"): {"kind": "long_qa", "source": FILES, "lengths": [1000], "metrics": ["rouge_l"], "stop": None},
    ("eval", "lm_eval"): {"kind": "lm_eval", "tasks": ["arc_easy"], "limit": 100, "num_fewshot": 5},
    ("eval", "longppl"): {
        "kind": "longppl",
        "source": FILES,
        "lengths": [8192],
        "alpha": 1.5,
        "evaluator": "some/model",
    },
    ("eval", "perplexity"): {"kind": "perplexity", "source": FILES, "lengths": [8, 16]},
    ("eval", "ruler"): {"kind": "ruler", "lengths": [4096], "tasks": ["vt", "cwe"], "haystack": FILES, "chat": True},
    ("eval", "snippet_qa"): {"kind": "snippet_qa", "source": FILES, "lengths": [256, 512], "samples": 3},
    ("eval", "key_value"): {"kind": "key_value", "lengths": [2048], "depths": [0, 1], "samples": 3},
    ("eval", "needle"): {"kind": "needle", "lengths": [2048], "num_needle_k": 4, "max_new_tokens": 32},
    ("eval", "passkey"): {"kind": "passkey", "haystack": FILES, "lengths": [64], "depths": [0, 0.5, 1]},
}
ALL = [(slot, kind) for slot in SLOTS for kind in INSTALLED[slot]]


def test_every_component_has_an_example() -> None:
    """No component of ours goes unchecked."""
    assert {key for key in ALL if INSTALLED[key[0]][key[1]].__module__.startswith("ctxkit_")} == set(EXAMPLES)


@pytest.mark.parametrize(("slot", "kind"), sorted(EXAMPLES))
def test_component(slot: str, kind: str) -> None:
    """A component of ours meets every expectation of the contract."""
    check_options(INSTALLED[slot][kind], EXAMPLES[slot, kind])


@pytest.mark.parametrize(("slot", "kind"), sorted(EXAMPLES))
def test_example_agrees_with_the_schema(slot: str, kind: str, registry: Registry) -> None:
    """What pydantic accepts, the published JSON schema accepts, and either refuses an unknown key."""
    schema = {**recipe_schema(registry), "properties": {"it": {"$ref": f"#/$defs/slot:{slot}"}}}
    jsonschema.validate({"it": EXAMPLES[slot, kind]}, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"it": {**EXAMPLES[slot, kind], "surplus": 1}}, schema)


def documents(*lengths: int) -> list[EncodedDocument]:
    """Return documents of so many tokens, each with a text of its own."""
    generator = np.random.default_rng(0)
    ids = [generator.integers(0, 15, size=length, dtype=np.int32) for length in lengths]
    return [EncodedDocument(Document("", f"d{n}"), tokens) for n, tokens in enumerate(ids)]


LENGTH = 8
EDGES = documents(0, 1, 2, LENGTH - 1, LENGTH, LENGTH + 1, 2 * LENGTH - 1, 2 * LENGTH, 2 * LENGTH + 1, 50)


class Letters:
    """A tokenizer of fifteen tokens, some of which end lines and sentences."""

    all_special_ids: tuple[int, ...] = ()

    def get_added_vocab(self) -> dict[str, int]:
        """Return nothing."""
        return {}

    def get_vocab(self) -> dict[str, int]:
        """Return token to id."""
        return {token: index for index, token in enumerate(["a", "b", "\n", "\n\n", ". ", *"cdefghijkl"])}

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        """Return the tokens joined."""
        return "".join(tokens)


@pytest.mark.parametrize(
    "values",
    [
        {"kind": "overlap"},
        {"kind": "overlap", "overlap": 3},
        {"kind": "overlap", "overlap": LENGTH - 1},
        {"kind": "overlap", "overlap": 0.5},
        {"kind": "pose", "target_length": 4 * LENGTH},
        {"kind": "pose", "target_length": LENGTH + 1, "parts": 5},
        {"kind": "paragraph"},
        {"kind": "paragraph", "min_length": LENGTH},
        {"kind": "paragraph", "min_length": 2},
        {"kind": "paragraph", "code": True},
    ],
    ids=str,
)
def test_chunker(values: dict[str, Any]) -> None:
    """A chunker of ours trains every token once and in order, at every awkward length."""
    tokenizer: Any = Letters()
    options: Any = INSTALLED["chunker"][values["kind"]].model_validate({**values, "length": LENGTH})
    check_chunker(options.build(Context(tokenizer=tokenizer)), EDGES, LENGTH)


WINDOW = 256


def written(*lengths: int) -> list[EncodedDocument]:
    """Return files of so many bytes in groups of three, each a history as well as a repository."""
    source = "".join(f"def name{n}(x):\n    return x + {n}\n\n" for n in range(50))
    tokenizer = Bytes()
    return [
        tokenizer.document(source[7 * n : 7 * n + length], f"f{n}.py", f"g{n // 3}", commit=f"{n}" * 40, subject="it")
        for n, length in enumerate(lengths)
    ]


FILES_AND_EDGES = [
    *written(0, 1, WINDOW - 3, WINDOW - 2, WINDOW - 1, WINDOW, 2 * WINDOW, 5 * WINDOW, 40, 41, 42),
    EncodedDocument(Document("", "none"), np.array([], dtype=np.int32)),
    EncodedDocument(Document("", "one"), np.array([65], dtype=np.int32)),
]


@pytest.mark.parametrize(
    "values",
    [
        {"kind": "multi_file"},
        {"kind": "multi_file", "order": "related", "format": "qwen"},
        {"kind": "multi_file", "order": "directory", "format": "starcoder2"},
        {"kind": "commit_chain"},
        {"kind": "commit_chain", "overlap": 0.5},
        {"kind": "commit_chain", "overlap": 30, "format": "starcoder"},
        {"kind": "snippet_qa", "questions": 2},
        {"kind": "snippet_qa", "train_on": "all"},
    ],
    ids=str,
)
def test_chunker_that_inserts(values: dict[str, Any]) -> None:
    """A chunker of ours that inserts tokens trains none of a document's twice and accounts for every one it reads."""
    options: Any = INSTALLED["chunker"][values["kind"]].model_validate({**values, "length": WINDOW})
    tokenizer: Any = Bytes(*options.special_tokens(()))
    drops = Drops()
    chunker = options.build(Context(tokenizer=tokenizer, dropped=drops))
    check_chunker(chunker, FILES_AND_EDGES, WINDOW, inserts=True, drops=drops)


ROWS = {
    "many": RowTable(
        np.arange(1, 41) * 8, np.arange(40, 0, -1) * 16, np.zeros(40, dtype=np.int64), np.array(["easy", "hard"] * 20)
    ),
    "fewer than a step": RowTable(np.array([300]), np.array([900]), np.array([0]), np.array(["medium"])),
}


@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)
@pytest.mark.parametrize(
    "values",
    [
        {"kind": "phases", "phases": [{"name": "a", "epochs": 3}, {"name": "b", "steps": 2, "least": 9}]},
        {
            "kind": "phases",
            "phases": [{"name": "a", "epochs": 1}, {"name": "b", "epochs": 1, "least": 999, "optional": True}],
        },
        *({"kind": "grow", "start": 16, "rule": rule} for rule in ("linear", "sqrt", "exponential", "steps")),
        {"kind": "mixture", "bands": [0], "points": [{"at": 0, "shares": [1]}, {"at": 0.4, "shares": [2]}]},
    ],
    ids=str,
)
def test_curriculum(values: dict[str, Any], rows: RowTable) -> None:
    """A curriculum of ours makes whole steps of rows that are there, the same every time."""
    options: Any = INSTALLED["curriculum"][values["kind"]].model_validate(values)
    for plan in (TrainingPlan(4, steps=7), TrainingPlan(3, None, 2.5)):
        check_curriculum(options.build(Context(seed=5)), rows, plan)


@pytest.mark.parametrize(
    ("phase", "said"),
    [
        (Phase("a", np.array([], dtype=np.int64)), "has no rows"),
        (Phase("a", np.array([0, 1])), "names rows 0 to 1, and there are 1"),
        (Phase("a", np.array([0, 0, 0])), "has 3 rows, no whole steps of 2"),
        (Phase("a", np.array([0.0, 0.0])), "no list of whole numbers"),
        (Phase("a", np.array([0, 0]), learning_rate=0), "learning rate by 0"),
        (Phase("a", np.array([0, 0]), window=1), "window of 1 tokens"),
    ],
)
def test_check_curriculum_finds_a_bad_phase(phase: Phase, said: str) -> None:
    """A phase that could not be served fails."""
    with pytest.raises(AssertionError, match=said):
        check_curriculum(lambda _rows, _plan: [phase], ROWS["fewer than a step"], TrainingPlan(2))


def test_check_curriculum_finds_what_changes() -> None:
    """An order that differs from time to time, and a table that is changed, fail."""
    rows, plan, turns = ROWS["many"], TrainingPlan(2), iter(range(9))
    with pytest.raises(AssertionError, match="other phases the second time"):
        check_curriculum(lambda *_: [Phase("a", np.array([next(turns), 0]))], rows, plan)
    with pytest.raises(AssertionError, match="no phase"):
        check_curriculum(lambda *_: [], rows, plan)

    def greedy(table: RowTable, _plan: TrainingPlan) -> list[Phase]:
        table.lengths[0] += 1
        return [Phase("a", np.array([0, 1]))]

    with pytest.raises(AssertionError, match="changed the table"):
        check_curriculum(greedy, replace(rows, lengths=rows.lengths.copy()), plan)


class Fine(FilterOptions):
    """Keep what is fine."""

    kind: Literal["fine"]
    least: int = 1
    """The least."""


def test_check_options_finds_a_heavy_module() -> None:
    """A class that meets the contract fails by its module alone, since this one imports numpy."""
    with pytest.raises(AssertionError, match=r"imports .*numpy"):
        check_options(Fine, {"kind": "fine", "least": 3})


class Bare(FilterOptions):
    """Fields without a word."""

    kind: Literal["bare"]
    least: int = 1
    most: int = Field(default=2, description="The most.")


class Thawed(FilterOptions):
    """Not frozen."""

    model_config = ConfigDict(frozen=False)
    kind: Literal["thawed"]


class Loose(FilterOptions):
    """Takes anything."""

    model_config = ConfigDict(extra="ignore")
    kind: Literal["loose"]


class Silent(FilterOptions):  # noqa: D101 - that is what is wrong with it
    kind: Literal["silent"]


class Default(FilterOptions):
    """Has a default."""

    kind: Literal["default"] = "default"


class Many(FilterOptions):
    """Has no kind of its own."""


class Forgetful(FilterOptions):
    """Does not come back from JSON."""

    kind: Literal["forgetful"]
    secret: int = Field(default=0, exclude=True, description="Never written.")


@pytest.mark.parametrize(
    ("cls", "said"),
    [
        (Bare, r"Bare has fields without a docstring or description: least$"),
        (Thawed, "Thawed is not frozen"),
        (Loose, "Loose accepts unknown keys"),
        (Silent, "Silent has no docstring"),
        (Default, "Default.kind must have no default"),
        (Many, r"Many needs a field `kind: Literal\['name'\]`"),
        (str, "does not derive from an options class of a slot"),
    ],
)
def test_check_options_finds(cls: type[Component], said: str) -> None:
    """Each expectation that a class does not meet is named."""
    with pytest.raises(AssertionError, match=said):
        check_options(cls)


def test_check_options_finds_what_json_loses() -> None:
    """A value that is lost on the way through JSON is found, for a run directory could not hold it."""
    with pytest.raises(AssertionError, match="Forgetful does not come back from JSON"):
        check_options(Forgetful, {"kind": "forgetful", "secret": 3})


def test_check_options_finds_a_module_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that only works inside a test is found."""
    (tmp_path / "zz_alone.py").write_text(
        "import sys\nfrom typing import Literal\nfrom ctxkit.spec import FilterOptions\n"
        "if 'pytest' not in sys.modules: 1/0\n"
        "class Alone(FilterOptions):\n    '''Alone.'''\n    kind: Literal['alone']\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import zz_alone  # type: ignore[import-not-found]

    with pytest.raises(AssertionError, match="zz_alone cannot be imported by itself"):
        check_options(zz_alone.Alone)
    del sys.modules["zz_alone"]


def cut(document: EncodedDocument, start: int, end: int, context: int = 0) -> Chunk:
    """Return a chunk of one document."""
    return Chunk(document.input_ids[start:end], (Span(document.document.id, start, end),), context)


def windows(document: EncodedDocument) -> list[Chunk]:
    """Return a document in windows, as a sound chunker does."""
    tokens = len(document.input_ids)
    return [cut(document, start, min(start + LENGTH, tokens)) for start in range(0, tokens, LENGTH)]


def mended(change: Callable[[list[Chunk]], list[Chunk]]) -> Callable[[Iterable[EncodedDocument]], Iterator[Chunk]]:
    """Return a chunker that is sound but for one change."""

    def chunker(stream: Iterable[EncodedDocument]) -> Iterator[Chunk]:
        yield from change([chunk for document in stream for chunk in windows(document)])

    return chunker


UNSOUND: dict[str, tuple[Callable[[list[Chunk]], list[Chunk]], str]] = {
    "loses the last": (lambda chunks: chunks[:-1], "document d9: tokens are never trained: 48, 49"),
    "trains twice": (
        lambda chunks: [*chunks[:-1], cut(EDGES[9], 47, 50)],
        "document d9: tokens are trained more than once: 47",
    ),
    "out of order": (lambda chunks: [*chunks[:-2], chunks[-1], chunks[-2]], "document d9: its chunks are out of order"),
    "window in a window": (
        lambda chunks: [*chunks, cut(EDGES[9], 48, 50, 1)],
        "tokens are trained more than once: 49",
    ),
    "other tokens": (
        lambda chunks: [*chunks[:-1], replace(chunks[-1], input_ids=chunks[-1].input_ids + 1)],
        r"has other tokens at Span\(document_id='d9', start=48",
    ),
    "empty": (lambda chunks: [*chunks, cut(EDGES[9], 50, 50)], r"chunk \d+ has 0 tokens, not 1 to 8"),
    "masks all": (lambda chunks: [*chunks[:-1], replace(chunks[-1], context_length=2)], "masks 2 of its 2 tokens"),
    "foreign": (
        lambda chunks: [*chunks[:-1], replace(chunks[-1], spans=(Span("x", 48, 50),))],
        "a document that was never given",
    ),
    "outside": (
        lambda chunks: [*chunks[:-1], replace(chunks[-1], spans=(Span("d9", 48, 51),))],
        "a span outside its document",
    ),
    "inserts": (
        lambda chunks: [*chunks[:-1], replace(chunks[-1], input_ids=np.append(chunks[-1].input_ids, 3))],
        "holds tokens that are in no span",
    ),
    "leaves a gap": (
        lambda chunks: [*chunks[:-1], replace(chunks[-1], spans=(Span("d9", 48, 50, 1),))],
        r"has other tokens at Span",
    ),
    "masks more": (lambda chunks: [*chunks[:-1], replace(chunks[-1], masked=((0, 1),))], "never trained: 48$"),
    "masks beyond": (lambda chunks: [*chunks[:-1], replace(chunks[-1], masked=((1, 3),))], "masks from 1 to 3 after 0"),
    "masks backwards": (
        lambda chunks: [*chunks[:-2], replace(chunks[-2], masked=((4, 6), (3, 4))), chunks[-1]],
        "masks from 3 to 4 after 6",
    ),
    "masks its context again": (
        lambda chunks: [*chunks[:-2], replace(chunks[-2], context_length=2, masked=((1, 4),)), chunks[-1]],
        "masks from 1 to 4 after 2",
    ),
    "masks all in parts": (
        lambda chunks: [*chunks[:-1], replace(chunks[-1], context_length=1, masked=((1, 2),))],
        "masks all of its tokens",
    ),
    "reaches too far": (lambda chunks: [*chunks[:-1], replace(chunks[-1], reach=2)], "has a reach of 2 in 2 tokens"),
}  # fmt: skip


@pytest.mark.parametrize("case", UNSOUND)
def test_check_chunker_finds(case: str) -> None:
    """Each way to be unsound is named, with the chunk or document."""
    change, said = UNSOUND[case]
    check_chunker(mended(lambda chunks: chunks), EDGES, LENGTH)
    with pytest.raises(AssertionError, match=said):
        check_chunker(mended(change), EDGES, LENGTH)


def framed(chunk: Chunk) -> Chunk:
    """Return a chunk with a token inserted before and after."""
    ids = np.concatenate([[14], chunk.input_ids, [14]]).astype(np.int32)
    (span,) = chunk.spans
    return Chunk(ids, (replace(span, offset=1),), masked=((0, 1),) if chunk.context_length else ())


FRAMED: dict[str, tuple[Callable[[list[Chunk]], list[Chunk]], str]] = {
    "loses the last": (lambda chunks: chunks[:-1], "document d9: 2 tokens are in no span, 0 are reported"),
    "trains twice": (lambda chunks: [*chunks, chunks[-1]], "document d9: tokens are trained more than once: 48, 49"),
    "out of order": (lambda chunks: [*chunks[:-2], chunks[-1], chunks[-2]], "document d9: its chunks are out of order"),
    "offset": (
        lambda chunks: [*chunks[:-1], replace(chunks[-1], spans=(replace(chunks[-1].spans[0], offset=0),))],
        "has other tokens at",
    ),
    "spans over each other": (
        lambda chunks: [*chunks[:-1], replace(chunks[-1], spans=(Span("d9", 48, 50, 1), Span("d9", 49, 50, 2)))],
        "has a span over, or before, the one before it",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", FRAMED)
def test_check_chunker_finds_with_inserted_tokens(case: str) -> None:
    """Each way to lose, repeat or misplace tokens among inserted ones is named."""
    change, said = FRAMED[case]

    def chunker(change: Callable[[list[Chunk]], list[Chunk]]) -> Any:
        return mended(lambda chunks: change([framed(chunk) for chunk in chunks]))

    check_chunker(chunker(lambda chunks: chunks), EDGES, LENGTH + 2, inserts=True)
    with pytest.raises(AssertionError, match=said):
        check_chunker(chunker(change), EDGES, LENGTH + 2, inserts=True)
    with pytest.raises(AssertionError, match="holds tokens that are in no span"):
        check_chunker(chunker(lambda chunks: chunks), EDGES, LENGTH + 2)


@pytest.mark.parametrize(
    ("told", "reason", "said"),
    [
        (49, "short", "document d0: 50 tokens are in no span, 49 are reported as dropped"),
        (51, "short", "document d0: 50 tokens are in no span, 51 are reported as dropped"),
        (-50, "short", "document d0: -50 tokens are reported as dropped"),
        (50, " ", "document d0: tokens are dropped without a reason"),
    ],
)
def test_check_chunker_finds_wrong_drops(told: int, reason: str, said: str) -> None:
    """Drops that do not match what is missing, or lack a reason, are found."""
    drops = Drops()

    def chunker(stream: Iterable[EncodedDocument], tokens: int = told, why: str = reason) -> Iterator[Chunk]:
        for document in stream:
            drops(document, tokens, why)
            yield from ()

    with pytest.raises(AssertionError, match=said):
        check_chunker(chunker, documents(50), LENGTH, inserts=True, drops=drops)


def test_check_chunker_takes_reported_drops() -> None:
    """What is left out with a word is no fault."""
    drops = Drops()

    def chunker(stream: Iterable[EncodedDocument]) -> Iterator[Chunk]:
        for document in stream:
            drops(document, len(document.input_ids), "not wanted")
            yield from ()

    check_chunker(chunker, documents(0, 1, 50), LENGTH, inserts=True, drops=drops)


def test_check_chunker_finds_a_window_in_a_window() -> None:
    """A window that lies inside the one before it only repeats."""

    def chunker(stream: Iterable[EncodedDocument]) -> Iterator[Chunk]:
        for document in stream:
            yield cut(document, 0, 4)
            yield cut(document, 0, 6, 4)

    with pytest.raises(AssertionError, match="lies inside, or before, the window 0 to 4"):
        check_chunker(chunker, documents(6), LENGTH)


def test_check_chunker_finds_too_long() -> None:
    """A chunk longer than promised is found."""
    with pytest.raises(AssertionError, match="chunk 0 has 8 tokens, not 1 to 7"):
        check_chunker(mended(lambda chunks: chunks), documents(8), 7)


def test_check_chunker_finds_a_list() -> None:
    """A chunker that gathers everything before it answers is found."""
    with pytest.raises(AssertionError, match="returns an iterator"):
        check_chunker(lambda stream: [c for d in stream for c in windows(d)], EDGES, LENGTH)  # type: ignore[arg-type,return-value]


def test_check_chunker_finds_chance() -> None:
    """A chunker that gives other chunks the second time is found."""
    calls: list[int] = []

    def chunker(stream: Iterable[EncodedDocument]) -> Iterator[Chunk]:
        calls.append(1)
        step = 3 + len(calls)
        for document in stream:
            for start in range(0, len(document.input_ids), step):
                yield cut(document, start, min(start + step, len(document.input_ids)))

    with pytest.raises(AssertionError, match="gave other chunks the second time"):
        check_chunker(chunker, documents(20), LENGTH)


def test_check_chunker_finds_a_change() -> None:
    """A chunker that writes into its documents is found."""

    def chunker(stream: Iterable[EncodedDocument]) -> Iterator[Chunk]:
        for document in stream:
            yield cut(replace(document, input_ids=document.input_ids.copy()), 0, 4)
            document.input_ids[0] += 1

    with pytest.raises(AssertionError, match="changed the ids of its documents"):
        check_chunker(chunker, documents(4), LENGTH)
