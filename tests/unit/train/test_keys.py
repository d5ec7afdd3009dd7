"""Stages of different seeds share what the seed does not change, and nothing else."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest

from ctxkit.recipe import EvalSplit
from ctxkit.spec import Context, Document, FilterOptions, SourceOptions, SourceSlot
from ctxkit_filters.options import LengthOptions, SecretsOptions, TruncationOptions
from ctxkit_sources.git.options import GitHistoryOptions, GitOptions
from ctxkit_sources.options import FilesOptions, HubOptions, KeyRecallOptions, RepeatsOptions
from tests.unit.train.builders import Texts, byte_tokenizer, keys_of, prepare, section

pytestmark = pytest.mark.torch

FILTERS = (LengthOptions(kind="length"), TruncationOptions(kind="truncation"), SecretsOptions(kind="secrets"))
STATED = RepeatsOptions(kind="repeats", documents=5, length=40)


class Sampled(FilterOptions):
    """A filter that says nothing of the seed."""

    kind: Literal["sampled"] = "sampled"

    def build(self, context: Context) -> Callable[[Document], str | None]:
        """Keep everything."""
        return lambda _: None


class Around(SourceOptions):
    """A source that reads another, and says that it uses no seed itself."""

    kind: Literal["around"] = "around"
    inner: SourceSlot

    def uses_seed(self) -> bool:
        """Return False, of itself."""
        return False

    def build(self, context: Context) -> Any:
        """Return the documents of the other."""
        return self.inner.build(context)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with a history of two versions of each of twenty files, and the files of the other sources."""
    folder = tmp_path / "repository"
    folder.mkdir()
    run = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*run, "init", "-q"], check=True)
    for version in "first", "second":
        for number in range(20):
            (folder / f"{number}.txt").write_text(f"{version} version of file {number}\n" * 3)
        subprocess.run([*run, "add", "-A"], check=True)
        subprocess.run([*run, "commit", "-q", "-m", version], check=True)
    return folder


SOURCES: dict[str, tuple[Callable[[Path], SourceOptions], bool]] = {
    "files": (lambda folder: FilesOptions(kind="files", paths=[f"{folder}/*.txt"]), True),
    "files, shuffled": (lambda folder: FilesOptions(kind="files", paths=[f"{folder}/*.txt"], shuffle=True), False),
    "hub": (lambda folder: HubOptions(kind="hub", path="text", data_files=[f"{folder}/*.txt"], split="train"), True),
    "hub, shuffled": (
        lambda folder: HubOptions(kind="hub", path="text", data_files=[f"{folder}/*.txt"], split="train", shuffle=True),
        False,
    ),
    "git": (lambda folder: GitOptions(kind="git", path=str(folder)), True),
    "git_history": (lambda folder: GitHistoryOptions(kind="git_history", path=str(folder)), True),
    "repeats": (lambda _: STATED, False),
    "key_recall": (
        lambda folder: KeyRecallOptions(
            kind="key_recall",
            haystack=FilesOptions(kind="files", paths=[f"{folder}/*.txt"]),
            documents=4,
            length=500,
        ),
        False,
    ),
}


@pytest.mark.parametrize("name", list(SOURCES))
def test_what_sources_say_of_the_seed_is_true(name: str, repository: Path) -> None:
    """One that says it uses no seed gives the same documents for each; one that says it does gives others."""
    make, same = SOURCES[name]
    source = make(repository)
    assert source.uses_seed() != same
    given = [[(d.id, d.text) for d in source.build(Context(seed=seed))] for seed in (0, 1, 2)]
    assert given[0]
    assert (given[0] == given[1] == given[2]) == same


@pytest.mark.parametrize("name", list(SOURCES))
def test_store_is_shared_where_the_seed_is_not_used(name: str, repository: Path, tmp_path: Path) -> None:
    """The key of the token store holds the seed for those alone that use it; that of the rows always does."""
    make, same = SOURCES[name]
    data = section(make(repository), filters=FILTERS)
    first, second = (keys_of(data, Context(seed=seed, tokenizer=byte_tokenizer()), tmp_path) for seed in (0, 1))
    assert (first.stores == second.stores) == same
    assert first.rows != second.rows


@pytest.mark.parametrize(
    ("source", "filters"),
    [
        (Texts(lengths=(9,)), ()),
        (FilesOptions(kind="files", paths=["/nowhere/*.txt"]), (Sampled(),)),
        (Around(inner=FilesOptions(kind="files", paths=["/nowhere/*.txt"], shuffle=True)), ()),
    ],
    ids=["a source that says nothing", "a filter that says nothing", "a source inside"],
)
def test_who_says_nothing_is_taken_to_use_it(
    source: SourceOptions, filters: tuple[FilterOptions, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tokens of another seed are never taken for those of this one."""
    monkeypatch.setattr(FilesOptions, "fingerprint", lambda *_: "")
    data = section(source, filters=filters)
    first, second = (keys_of(data, Context(seed=seed, tokenizer=byte_tokenizer()), tmp_path) for seed in (0, 1))
    assert first.stores != second.stores


def test_second_seed_reads_nothing_again(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two stages of two seeds on the same files: the second takes its tokens from the store and draws its split."""
    data = section(SOURCES["files"][0](repository), length=200, eval=EvalSplit(share=0.5))
    first = prepare(data, tmp_path, seed=0)
    monkeypatch.setattr(FilesOptions, "build", lambda *_: pytest.fail("read again"))
    second = prepare(data, tmp_path, seed=1)
    assert len(list((tmp_path / "data/tokens").iterdir())) == 1
    rows = [{tuple(row["input_ids"].tolist()) for row in (*made.train, *made.eval)} for made in (first, second)]
    assert rows[0] == rows[1]
    assert [row["input_ids"].tolist() for row in first.train] != [row["input_ids"].tolist() for row in second.train]
