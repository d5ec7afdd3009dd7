"""The run directory: who may continue in it, and that nothing half-written is there under its name."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ctxkit import rundir
from ctxkit.errors import CtxkitError, DiskError, ExitCode, ResumeError
from ctxkit.fingerprint import Fingerprint
from ctxkit.resuming import Resume
from ctxkit.rundir import RunDirectory

RECIPE: dict[str, Any] = {
    "name": "demo",
    "description": "",
    "model": {"name_or_path": "a", "revision": "12345e67"},
    "stages": [
        {"name": "one", "train": {"learning_rate": 1e-5, "bf16": True}, "evals": [{"kind": "passkey"}]},
        {"name": "two", "train": {}, "evals": []},
    ],
}


def changed(**values: Any) -> dict[str, Any]:
    """Return the recipe with other values."""
    return {**json.loads(json.dumps(RECIPE)), **values}


@pytest.fixture
def directory(tmp_path: Path) -> RunDirectory:
    """Return a directory that holds a run of the recipe."""
    made = RunDirectory(tmp_path / "run")
    with made.locked():
        assert not made.holds(Fingerprint(RECIPE, {"rope:yarn": "x"}))
        made.claim(Fingerprint(RECIPE, {"rope:yarn": "x"}))
    made.update(status="done", components={"rope:yarn": "x"})
    rundir.write_json(made.begun_record("one"), {"num_processes": 1})
    return made


def test_prepared_data_alone_is_no_run(directory: RunDirectory) -> None:
    """Before anything is trained a changed recipe takes the directory over, and the tokenizer is made again."""
    shutil.rmtree(directory.stage("one"))
    (directory.tokenizer / "old").mkdir(parents=True)
    directory.claim(Fingerprint(changed(name="other"), {}))
    assert not directory.tokenizer.exists()
    assert directory.holds(Fingerprint(changed(name="other"), {}))


def test_what_a_kill_left_is_no_other_file(tmp_path: Path) -> None:
    """A file that was never renamed, or a tokenizer that was never whole, does not take the directory."""
    made = RunDirectory(tmp_path / "run")
    (made.path / "tokenizer.tmp-77").mkdir(parents=True)
    (made.path / ".recipe.yaml.tmp-77").write_text("half")
    assert not made.holds(Fingerprint(RECIPE, {}))


def test_the_same_recipe_continues(directory: RunDirectory) -> None:
    """The same recipe is recognised, though it went through a file; a commit stays text, 1e-5 a number."""
    assert directory.holds(Fingerprint(RECIPE, {"rope:yarn": "x"}))
    directory.claim(Fingerprint(RECIPE, {"rope:yarn": "x"}))
    assert directory.status()["status"] == "done"


def test_description_and_evals_may_change(directory: RunDirectory) -> None:
    """What is said, measured, logged and kept may change; the run is no longer done until that is done too."""
    train = {**RECIPE["stages"][0]["train"], "save_steps": 7, "logging_steps": 1}
    stages = [{**RECIPE["stages"][0], "evals": [], "train": train}, RECIPE["stages"][1]]
    other = changed(description="new", stages=stages)
    assert not directory.holds(Fingerprint(other, {}))
    assert directory.holds(Fingerprint(RECIPE, {}))
    directory.claim(Fingerprint(other, {}))
    assert directory.holds(Fingerprint(other, {}))
    assert directory.status()["status"] == "running"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": "other"}, 'name: "demo" -> "other"'),
        ({"model": {"name_or_path": "a", "revision": None}}, 'model.revision: "12345e67" -> null'),
        (
            {"stages": [{**RECIPE["stages"][0], "train": {"learning_rate": 1e-5, "bf16": False}}, RECIPE["stages"][1]]},
            "stages.one.train.bf16: true -> false",
        ),
        ({"stages": RECIPE["stages"][::-1]}, 'stages.one.from: null -> "two"'),
        ({"surplus": 1}, "surplus: null -> 1"),
    ],
)
def test_changed_recipe_is_refused(directory: RunDirectory, change: dict[str, Any], said: str) -> None:
    """A recipe that changed is refused with exit code 4, each change named with old and new value."""
    with pytest.raises(ResumeError) as caught:
        directory.claim(Fingerprint(changed(**change), {}))
    assert said in caught.value.message
    assert "start a new one with --run-dir" in caught.value.hint
    assert caught.value.exit_code == ExitCode.RESUME


def test_changed_component_is_refused(directory: RunDirectory) -> None:
    """The same recipe with other code is another run; a component that is new is no change of an old one."""
    with pytest.raises(ResumeError, match=r"the source code of rope:yarn changed"):
        directory.claim(Fingerprint(RECIPE, {"rope:yarn": "y"}))
    directory.claim(Fingerprint(RECIPE, {"rope:yarn": "x", "chunker:overlap": "z"}))


def test_many_changes_are_cut(directory: RunDirectory) -> None:
    """A wholly different recipe shows ten changes and counts the others."""
    with pytest.raises(ResumeError, match=r"\.\.\. and 5 more"):
        directory.claim(Fingerprint(changed(**{f"key{n}": n for n in range(15)}), {}))


def test_directory_of_somebody_else(tmp_path: Path) -> None:
    """A directory with stages but without a recipe is not taken over."""
    (tmp_path / "stages/one").mkdir(parents=True)
    with pytest.raises(ResumeError, match="holds another run, without its recipe"):
        RunDirectory(tmp_path).claim(Fingerprint(RECIPE, {}))


def test_second_process_is_refused(directory: RunDirectory) -> None:
    """While one process runs, another is turned away; when it is gone, however it ended, the next may."""
    code = (
        "import sys; from pathlib import Path; from ctxkit.rundir import RunDirectory\n"
        "with RunDirectory(Path(sys.argv[1])).locked():\n    print('held', flush=True); sys.stdin.read()\n"
    )
    line = [sys.executable, "-c", code, str(directory.path)]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(CtxkitError, match="another process is running in"), directory.locked():
            pass
        process.kill()
    with directory.locked():
        pass


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_directory_that_cannot_be(tmp_path: Path, place: str) -> None:
    """A file in the place of the directory, or above it, is exit code 6 with another choice."""
    (tmp_path / "file").touch()
    directory = RunDirectory(tmp_path / place)
    with pytest.raises(DiskError, match="choose another with --run-dir") as caught, directory.locked():
        pass
    assert caught.value.exit_code == ExitCode.DISK
    with pytest.raises(DiskError, match="Not a directory"):
        directory.status()


def test_damaged_status(directory: RunDirectory) -> None:
    """A `run.json` that is no JSON is named."""
    (directory.path / "run.json").write_text("{")
    with pytest.raises(DiskError, match=r"run\.json is damaged"):
        directory.status()


def test_status(tmp_path: Path) -> None:
    """A new directory has no status; values are added to those before."""
    directory = RunDirectory(tmp_path / "new")
    assert directory.status() == {}
    directory.update(status="running", seed=3)
    directory.update(status="done")
    assert directory.status() == {"status": "done", "seed": 3}


@pytest.mark.parametrize("call", ["replace", "fsync"])
def test_write_is_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """A write that is cut off, wherever, leaves the old content under the name."""
    path = tmp_path / "file.json"
    rundir.write_json(path, {"old": "é"})

    def cut_off(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os if call == "fsync" else Path, call, cut_off)
    with pytest.raises(OSError, match="No space left"):
        rundir.write_json(path, {"new": 1})
    assert json.loads(path.read_text(encoding="utf-8")) == {"old": "é"}


def test_write_makes_folders_and_leaves_no_rest(tmp_path: Path) -> None:
    """A write makes the folders that it needs, and its temporary file is gone."""
    rundir.write_text(tmp_path / "a/b/c.txt", "text")
    assert [path.name for path in (tmp_path / "a/b").iterdir()] == ["c.txt"]


def test_read_json(tmp_path: Path) -> None:
    """A file that is not there, one that is cut short, and one that holds no object are all an empty object."""
    assert rundir.read_json(tmp_path / "nowhere.json") == {}
    (tmp_path / "cut.json").write_text('{"a": ')
    assert rundir.read_json(tmp_path / "cut.json") == {}
    (tmp_path / "list.json").write_text("[1]")
    assert rundir.read_json(tmp_path / "list.json") == {}
    (tmp_path / "whole.json").write_text('{"a": 1}')
    assert rundir.read_json(tmp_path / "whole.json") == {"a": 1}


def test_wait_for(tmp_path: Path) -> None:
    """Waiting for a file that is there takes no time."""
    rundir.wait_for(tmp_path, seconds=60)


def test_places(tmp_path: Path) -> None:
    """Everything of a run lies below its directory, each stage and eval in a place of its own."""
    directory = RunDirectory(tmp_path)
    places = [
        directory.tokenizer, directory.stage("a"), directory.stage("b"), directory.model("a"), directory.metrics,
        directory.stage_record("a"), directory.data("k"), directory.evaluation("a", 0, "x"),
        directory.evaluation("a", 1, "x"), directory.evaluation("b", 0, "x"),
    ]  # fmt: skip
    assert len(set(places)) == len(places)
    assert all(place.is_relative_to(tmp_path) for place in places)


def test_what_is_typed_as_a_checkpoint(directory: RunDirectory) -> None:
    """A folder of the stage by its step; one that was renamed needs its name again; odd names are refused."""
    folder = directory.stage("one") / "checkpoints"
    for name in ("checkpoint-6", "later-1-checkpoint-8", "checkpoint-mine"):
        (folder / name).mkdir()
    assert directory.asked(Resume("one/checkpoint-6")) == ("one", folder / "checkpoint-6")
    for name in ("later-1-checkpoint-8", "checkpoint-mine"):
        for typed in (f"one/{name}", str(folder / name)):
            with pytest.raises(ResumeError, match="none of the checkpoints"):
                directory.asked(Resume(typed))
    for typed in (f"{'x' * 300}/checkpoint-6", f"one/{'x' * 300}", "a\0b", "one", "one/checkpoint-7", ".."):
        with pytest.raises(ResumeError, match="is no checkpoint of"):
            directory.asked(Resume(typed))


@pytest.mark.parametrize("text", ["", "3", "stages: 3", "stages: [a]", "stages: [{train: {}}]"])
def test_a_damaged_recipe_is_refused(text: str, directory: RunDirectory) -> None:
    """Valid YAML that is no recipe is said to be damaged."""
    (directory.path / "recipe.yaml").write_text(text)
    with pytest.raises(CtxkitError) as caught:
        directory.recorded()
    assert "recipe.yaml" in str(caught.value)
