"""The comparisons of the data path run, on a corpus that is too small to say anything about time."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

pytestmark = [pytest.mark.torch, pytest.mark.slow]

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
SMALL = {
    "megabytes": 0.1,
    "rounds": 1,
    "vocabulary": 600,
    "scan-tokens": 5000,
    "commits": 30,
    "document-megabytes": 0.3,
    "splitter-megabytes": 0.05,
}


@pytest.fixture(scope="module")
def data() -> ModuleType:
    """Load the script, which is no package; its neighbours come along under their own names."""
    spec = importlib.util.spec_from_file_location("benchmark_data", BENCHMARKS / "data.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


def in_process(data: ModuleType) -> type:
    """Return a bench that measures in this process: importing the training stack each time would take minutes."""
    tasks = sys.modules["data_tasks"]

    class InProcess(data.Bench):
        def start(self, python: str, task: str, place: Path) -> None:
            measure = tasks.measured(tasks.TASKS[task], json.loads((place / "job.json").read_text()))
            (place / "result.json").write_text(json.dumps(data.asdict(measure)))

    return InProcess


def run(data: ModuleType, tmp_path: Path, only: str) -> dict[str, Any]:
    """Run some comparisons and return what was written."""
    options = [f"--{name}={value}" for name, value in SMALL.items()]
    folders = [f"--cache={tmp_path / 'cache'}", f"--output={tmp_path / 'out'}"]
    data.main([*options, *folders, f"--only={only}"], in_process(data))
    return json.loads((tmp_path / "out/data.json").read_text())


def figures(results: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the lines of the table by what they measure."""
    return {figure["what"]: figure for figure in results["figures"]}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the comparisons below leave what they measure."""
    return tmp_path_factory.mktemp("compared")


@pytest.fixture(scope="module")
def results(data: ModuleType, place: Path) -> dict[str, Any]:
    """What came of every comparison with what is always installed."""
    return run(data, place, ",".join(name for name in data.COMPARISONS if name not in OPTIONAL))


OPTIONAL = {"duplicates", "splitters", "axolotl"}


def test_comparisons_with_what_is_always_installed(results: dict[str, Any], place: Path) -> None:
    """Every comparison measures something, and what does not depend on time is right."""
    said = figures(results)
    assert said["tokens lost, ctxkit"]["met"]
    assert said["bytes on disk a token, ctxkit"]["met"]
    assert said["planted cases right, ctxkit"]["met"]
    assert said["planted cases right, scan"]["figure"].startswith("2 of 4")
    assert {name.split(":")[0].split(" (")[0] for name in results["measures"]} == {
        "text to packed rows",
        "tokenise and chunk",
        "repetition",
        "history",
        "memory",
    }
    markdown = (place / "out/data.md").read_text()
    assert all(figure["what"] in markdown for figure in results["figures"])
    assert str(place) not in markdown


def test_peers_count_the_same(results: dict[str, Any]) -> None:
    """What is compared is the same work: the tokens of TRL's rows, the changes of the synthetic history."""
    facts = {name: measures[0]["facts"] for name, measures in results["measures"].items()}
    assert facts["text to packed rows: ctxkit"]["tokens"] == results["corpus"]["tokens"]
    assert facts["text to packed rows: TRL"]["tokens"] == results["corpus"]["tokens"]
    history = next(fact for name, fact in facts.items() if name.endswith("commits): ctxkit"))
    shown = next(fact for name, fact in facts.items() if name.endswith("git show"))
    assert shown["commits"] == SMALL["commits"]
    assert history["changes"] > SMALL["commits"]


def test_peers_that_are_installed(data: ModuleType, tmp_path: Path) -> None:
    """The comparisons with optional packages run where those are there, and say so where not."""
    results = run(data, tmp_path, ",".join(sorted(OPTIONAL)))
    assert {figure["comparison"] for figure in results["figures"]} == {
        "near duplicates",
        "paragraphs",
        "axolotl preprocess",
    }


def test_the_corpus_depends_on_the_seed_alone(data: ModuleType) -> None:
    """The same seed draws the same texts, each once; another seed draws others."""
    inputs = sys.modules["data_inputs"]
    first = list(inputs.python_sources(0.2, 1))
    assert first == list(inputs.python_sources(0.2, 1))
    assert first != list(inputs.python_sources(0.2, 2))
    assert len(set(first)) == len(first)


def test_planted_cases_are_what_they_say(data: ModuleType) -> None:
    """Each case repeats n-grams of 50 tokens or not, counted the slow way."""
    for repeats, tokens in sys.modules["data_tasks"].planted().values():
        ids = np.array(tokens)
        ngrams = {ids[start : start + 50].tobytes() for start in range(len(ids) - 49)}
        assert (len(ngrams) < 0.8 * (len(ids) - 49)) == repeats
