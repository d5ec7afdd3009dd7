"""A checkpoint whose seal is not as it was written is not whole, whatever became of the seal."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ctxkit.train import checkpoints

pytestmark = pytest.mark.torch

HASHED = {"bytes": 3, "xxh3_128": "0" * 32}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two whole checkpoints, of the steps 2 and 4."""
    for step in (2, 4):
        made = tmp_path / f"checkpoint-{step}"
        made.mkdir()
        torch.save({"state": {}, "param_groups": []}, made / "optimizer.pt")
        checkpoints.seal(made, step)
    return tmp_path


def as_before(seal: Path, entry: Callable[[dict[str, Any]], Any] = dict) -> None:
    """Write a seal as an older version did: without a hash of itself."""
    sealed = json.loads(seal.read_text())
    files = {name: entry(file) for name, file in sealed["files"].items()}
    seal.write_text(json.dumps({"step": sealed["step"], "files": files}, indent=1))


def as_directory(seal: Path) -> None:
    """Put a directory in the place of a seal."""
    seal.unlink()
    seal.mkdir()


def written(text: str | bytes) -> Callable[[Path], Any]:
    """Return what writes other content into a seal."""
    return lambda seal: seal.write_bytes(text if isinstance(text, bytes) else text.encode())


DAMAGE: dict[str, Callable[[Path], Any]] = {
    "empty": written(""),
    "not text": written(b"\xff\xfe"),
    "a list": written("[]"),
    "no files": written('{"step": 4, "files": {}}'),
    "files in a list": written('{"step": 4, "files": ["optimizer.pt"]}'),
    "an empty entry": written('{"step": 4, "files": {"optimizer.pt": {}}}'),
    "a null entry": written('{"step": 4, "files": {"optimizer.pt": null}}'),
    "a size in words": written(json.dumps({"step": 4, "files": {"optimizer.pt": {**HASHED, "bytes": "3"}}})),
    "a hash that is none": written(json.dumps({"step": 4, "files": {"optimizer.pt": {**HASHED, "xxh3_128": 3}}})),
    "another step": lambda seal: seal.write_text(seal.read_text().replace('"step": 4', '"step": 5')),
    "a directory": as_directory,
}


@pytest.mark.parametrize("damage", list(DAMAGE))
def test_damaged_seal(damage: str, folder: Path) -> None:
    """The checkpoint is set aside with that reason, and the one before it is used."""
    DAMAGE[damage](folder / "checkpoint-4" / checkpoints.SEAL)
    path, (said,) = checkpoints.newest(folder)
    assert path == folder / "checkpoint-2"
    assert said.startswith("checkpoint-4 is not whole (its seal is damaged)")


def test_no_seal_is_an_interruption(folder: Path) -> None:
    """A seal that is not there was never written, for it is written whole or not at all."""
    (folder / "checkpoint-4" / checkpoints.SEAL).unlink()
    assert checkpoints.broken(folder / "checkpoint-4") == "it was interrupted while it was written"


@pytest.mark.parametrize("bit", [1, 2, 64])
def test_every_byte_of_a_seal_counts(bit: int, folder: Path) -> None:
    """With a bit of any byte turned over, the checkpoint is not whole."""
    seal = folder / "checkpoint-4" / checkpoints.SEAL
    raw = seal.read_bytes()
    same = json.loads(raw)
    for place in range(len(raw)):
        turned = bytes([*raw[:place], raw[place] ^ bit, *raw[place + 1 :]])
        seal.write_bytes(turned)
        if not _reads_as(turned, same):
            assert checkpoints.broken(seal.parent), turned
    seal.write_bytes(raw)
    assert not checkpoints.broken(seal.parent)


def _reads_as(raw: bytes, value: Any) -> bool:
    """Return whether bytes are JSON of a value: a space between two keys may be another."""
    try:
        return bool(json.loads(raw) == value)
    except ValueError:
        return False


@pytest.mark.parametrize("entry", [dict, lambda file: file["bytes"]])
def test_seals_of_older_versions(entry: Callable[[dict[str, Any]], Any], folder: Path) -> None:
    """They are read as they are, and no byte of one that is turned over ends in another error."""
    seal = folder / "checkpoint-4" / checkpoints.SEAL
    as_before(seal, entry)
    assert not checkpoints.broken(seal.parent)
    raw = seal.read_bytes()
    for place in range(len(raw)):
        seal.write_bytes(bytes([*raw[:place], raw[place] ^ 1, *raw[place + 1 :]]))
        in_step = raw[:place].endswith(b'"step": ')
        assert bool(checkpoints.broken(seal.parent)) != in_step


def test_rejected_are_kept(folder: Path) -> None:
    """What was set aside lies there as it was."""
    shutil.copytree(folder / "checkpoint-4", folder / "before")
    as_directory(folder / "checkpoint-4" / checkpoints.SEAL)
    checkpoints.newest(folder)
    kept = folder / "rejected-1-checkpoint-4" / "optimizer.pt"
    assert kept.read_bytes() == (folder / "before/optimizer.pt").read_bytes()
