"""A checkpoint that is not as it was saved, or was cut short, is set aside, and the run ends as if nothing happened."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from transformers import TrainerState

from ctxkit.errors import RecipeError, ResumeError
from ctxkit.train import checkpoints, run
from tests.integration.micro import RECIPE, losses, weights

pytestmark = [pytest.mark.torch, pytest.mark.slow]

ONE = RECIPE.partition("  - name: control")[0].replace("  tie_word", "  attention_dropout: 0.1\n    tie_word")
ONE = ONE[: ONE.index("evals:")] + ONE[ONE.index("stages:") :]
"""One stage, with dropout, so that its random numbers matter."""
ALL = ("train.save_total_limit=null",)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a run that nothing happened to, with the checkpoints 2, 4, 6 and 8."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    (folder / "one.yaml").write_text(ONE, encoding="utf-8")
    return run(folder / "one.yaml", folder / "run", ALL).path


@pytest.fixture
def trained(tmp_path: Path, uninterrupted: Path) -> Path:
    """A run directory as it was when the last checkpoint was saved and nothing more."""
    (tmp_path / "one.yaml").write_text(ONE, encoding="utf-8")
    shutil.copytree(uninterrupted, tmp_path / "run")
    shutil.rmtree(tmp_path / "run/stages/base/model")
    for name in ("stage.json", "finished"):
        (tmp_path / "run/stages/base" / name).unlink()
    return tmp_path / "run"


def again(directory: Path) -> Path:
    """Run the recipe beside a run directory in it."""
    return run(directory.parent / "one.yaml", directory, ALL).path


def assert_same(directory: Path, other: Path) -> None:
    """Compare every logged loss and every final weight of two runs, to the last bit."""
    assert losses(directory) == losses(other)
    ours, theirs = (weights(folder / "stages/base/model") for folder in (directory, other))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def zero_weights(newest: Path) -> None:
    """Keep the header, which says where tensors begin, and zero the rest."""
    file = newest / "model.safetensors"
    content = file.read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    file.write_bytes(content[:header] + bytes(len(content) - header))


def without(*names: str) -> Callable[[Path], Any]:
    """Return what deletes files of a checkpoint."""
    return lambda newest: [(newest / name).unlink() for name in names]


def cut(name: str, size: int) -> Callable[[Path], None]:
    """Return what cuts a file of a checkpoint."""
    return lambda newest: os.truncate(newest / name, size)


def sealed_after(damage: Callable[[Path], Any]) -> Callable[[Path], None]:
    """Damage before the seal was written: its sizes and hashes are right."""

    def both(newest: Path) -> None:
        damage(newest)
        checkpoints.seal(newest, 8)

    return both


STATE = ("optimizer.pt", "scheduler.pt", "rng_state.pth")
DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "weights cut": (cut("model.safetensors", 1000), "model.safetensors has 1000 bytes"),
    "weights zeroed": (zero_weights, "model.safetensors has other bytes"),
    "folder empty": (lambda newest: [path.unlink() for path in newest.iterdir()], "interrupted while it was written"),
    "no weights": (without("model.safetensors"), "model.safetensors is missing"),
    "no state": (without("trainer_state.json"), "trainer_state.json is missing"),
    "state cut": (cut("trainer_state.json", 10), "trainer_state.json has 10 bytes"),
    "optimizer cut": (cut("optimizer.pt", 500), "optimizer.pt has 500 bytes"),
    "no optimizer": (without("optimizer.pt"), "optimizer.pt is missing"),
    "no scheduler": (without("scheduler.pt"), "scheduler.pt is missing"),
    "no random numbers": (without("rng_state.pth"), "rng_state.pth is missing"),
    "optimizer of another step": (
        lambda newest: shutil.copy(newest.parent / "checkpoint-6/optimizer.pt", newest),
        "optimizer.pt has other bytes",
    ),
    "sentinel of transformers": (lambda newest: (newest / checkpoints.INCOMPLETE).touch(), checkpoints.INCOMPLETE),
    "killed inside the save": (without("ctxkit.json", *STATE), "interrupted while it was written"),
    "seal cut": (cut("ctxkit.json", 10), "its seal is damaged"),
    "model alone": (sealed_after(without(*STATE)), "it holds no optimizer"),
    "weights cut, then sealed": (sealed_after(cut("model.safetensors", 1000)), "model.safetensors cannot be read"),
    "optimizer cut, then sealed": (sealed_after(cut("optimizer.pt", 500)), "optimizer.pt cannot be read"),
    "state cut, then sealed": (sealed_after(cut("trainer_state.json", 10)), "trainer_state.json cannot be read"),
}


@pytest.mark.parametrize("damage", list(DAMAGE))
def test_damaged_checkpoint_is_set_aside(
    damage: str, trained: Path, uninterrupted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The newest one is named in one line, with the reason, and set aside; the one before it gives the same numbers."""
    folder = trained / "stages/base/checkpoints"
    spoil, reason = DAMAGE[damage]
    spoil(folder / "checkpoint-8")
    assert_same(again(trained), uninterrupted)
    said = [line for line in capsys.readouterr().err.splitlines() if "checkpoint-" in line]
    assert len(said) == 2, said
    assert said[0].startswith("checkpoint-8 is not whole (")
    assert reason in said[0]
    assert said[1] == "continuing from checkpoint-6"
    assert (folder / "rejected-1-checkpoint-8").is_dir()
    assert (folder / "checkpoint-8").is_dir()


def test_no_whole_checkpoint_begins_again(trained: Path, uninterrupted: Path) -> None:
    """With every one damaged the stage begins anew, and all of them are kept aside."""
    folder = trained / "stages/base/checkpoints"
    for path in folder.glob("checkpoint-*"):
        os.truncate(path / "optimizer.pt", 0)
    assert_same(again(trained), uninterrupted)
    assert len(list(folder.glob("rejected-*"))) == 4


def test_seals_without_hashes_are_read(trained: Path, uninterrupted: Path) -> None:
    """Checkpoints that an older version sealed, by size alone, are continued from, and damage is found by size."""
    folder = trained / "stages/base/checkpoints"
    for path in folder.glob("checkpoint-*/ctxkit.json"):
        sealed = json.loads(path.read_text())
        sizes = {name: file["bytes"] for name, file in sealed["files"].items()}
        path.write_text(json.dumps({"step": sealed["step"], "files": sizes}))
    os.truncate(folder / "checkpoint-8/optimizer.pt", 500)
    assert checkpoints.newest(folder)[0] == folder / "checkpoint-6"
    assert_same(again(trained), uninterrupted)


def test_what_no_file_tells_is_one_clear_error(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole checkpoint that the trainer cannot load is named, with what to do; it stays where it is."""

    def refuse(*_: Any) -> None:
        raise ValueError("loaded state dict contains a parameter group that doesn't match")

    monkeypatch.setattr(torch.optim.Optimizer, "load_state_dict", refuse)
    with pytest.raises(ResumeError, match=r"checkpoint-8 is whole, but cannot be loaded: .*parameter group") as caught:
        again(trained)
    assert "checkpoint-6" in caught.value.hint
    assert (trained / "stages/base/checkpoints/checkpoint-8").is_dir()


def test_a_model_alone_cannot_be_asked_for(tmp_path: Path) -> None:
    """`save_only_model` would begin with a fresh optimizer after an interruption, so it is refused with that reason."""
    (tmp_path / "one.yaml").write_text(ONE, encoding="utf-8")
    with pytest.raises(RecipeError, match="could not go on where it was"):
        run(tmp_path / "one.yaml", tmp_path / "run", ["train.save_only_model=true"])


class KilledError(BaseException):
    """What no handler of errors catches."""


class Writes:
    """Kills at one of the writes of a run, the file cut in half."""

    def __init__(self) -> None:
        """Kill nowhere."""
        self.left = -1
        self.names: list[str] = []

    def count(self, target: Any) -> None:
        """Count a write of a stage, to a file that was just made."""
        if "/stages/" not in str(target):
            return
        self.left -= 1
        self.names.append(Path(target).name.removeprefix(".").partition(".tmp-")[0])
        if self.left == -1:
            if Path(target).is_file():
                os.truncate(target, Path(target).stat().st_size // 2)
            raise KilledError

    def watched(self, write: Callable[..., Any], place: int) -> Callable[..., Any]:
        """Return a function that writes to its argument at a place, counted."""

        def counted(*arguments: Any, **named: Any) -> Any:
            result = write(*arguments, **named)
            self.count(arguments[place])
            return result

        return counted


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Writes]:
    """What writes or deletes a file of a checkpoint, a model or a record, counted."""
    made = Writes()
    monkeypatch.setattr(torch, "save", made.watched(torch.save, 1))
    saved = made.watched(safetensors.torch.save_file, 1)
    monkeypatch.setattr("transformers.modeling_utils.safe_save_file", saved)
    monkeypatch.setattr(TrainerState, "save_to_json", made.watched(TrainerState.save_to_json, 1))
    replaced, removed = Path.replace, shutil.rmtree
    monkeypatch.setattr(Path, "replace", lambda path, target: (made.count(path), replaced(path, target))[1])
    monkeypatch.setattr(shutil, "rmtree", made.watched(removed, 0))
    return made


def test_killed_in_every_write(tmp_path: Path, uninterrupted: Path, writes: Writes) -> None:
    """Attempt after attempt, each killed one write later than the one before it and with that file cut in half."""
    (tmp_path / "one.yaml").write_text(ONE, encoding="utf-8")
    killed, hit = 0, set()
    while True:
        writes.left = killed
        try:
            directory = run(tmp_path / "one.yaml", tmp_path / "run").path
        except KilledError:
            killed += 1
            hit.add(writes.names[-1])
        else:
            break
    assert hit >= {"model.safetensors", "trainer_state.json", "training_args.bin", "ctxkit.json", "model", *STATE}
    assert_same(directory, uninterrupted)
    assert len(list((directory / "stages/base/checkpoints").glob("checkpoint-*"))) == 2


def test_other_folders_survive(trained: Path) -> None:
    """The oldest checkpoints by step are deleted, whatever their times, and no folder that somebody else named."""
    folder = trained / "stages/base/checkpoints"
    for name in ("checkpoint-best", "checkpoint-2-copy", "checkpoint-notes"):
        shutil.copytree(folder / "checkpoint-2", folder / name)
    os.utime(folder / "checkpoint-2", (4e9, 4e9))
    (folder / "checkpoint-1").symlink_to(folder / "checkpoint-best")
    checkpoints.rotate(folder, 2)
    left = {path.name for path in folder.glob("checkpoint-*")}
    assert left == {
        "checkpoint-1", "checkpoint-6", "checkpoint-8", "checkpoint-best", "checkpoint-2-copy", "checkpoint-notes",
    }  # fmt: skip
    checkpoints.rotate(folder, None)
    assert left == {path.name for path in folder.glob("checkpoint-*")}
