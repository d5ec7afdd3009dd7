"""Checkpoints that count: each sealed by a file written last, so that none that is cut short or changed is resumed."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from transformers.trainer_pt_utils import safe_globals

from ctxkit.rundir import read_json, read_sealed, write_sealed
from ctxkit.train import pickles
from ctxkit.train.tokens import prefix_digest

SEAL = "ctxkit.json"
INCOMPLETE = "checkpoint-is-incomplete.txt"
"""What transformers lays into a checkpoint while it saves one at the last moment; it resumes from it all the same."""
OPTIMIZERS = ("optimizer", "global_step")
"""How what holds the optimizer begins, in a checkpoint of one process, of FSDP, and of DeepSpeed."""
_NAME = re.compile(r"checkpoint-(\d+)")


def seal(checkpoint: Path, step: int) -> None:
    """Write the size and the hash of every file of a finished checkpoint."""
    inside = (file for file in sorted(checkpoint.rglob("*")) if file.is_file() and file.name != SEAL)
    files = {str(file.relative_to(checkpoint)): _sealed(file) for file in inside}
    write_sealed(checkpoint / SEAL, {"step": step, "files": files})


def newest(folder: Path, *, quick: bool = False) -> tuple[Path | None, list[str]]:
    """Return the newest whole checkpoint of a stage, and a line about each one that was set aside.

    A checkpoint that is not whole is renamed to `rejected-...`, never deleted, so that nothing trips over it again.
    """
    said: list[str] = []
    for path in reversed(numbered(folder)):
        reason = broken(path, quick=quick)
        if not reason:
            return path, said
        said.append(f"{path.name} is not whole ({reason}); it was set aside as {_aside(path, 'rejected').name}")
    return None, said


def back_to(checkpoint: Path) -> list[str]:
    """Set aside the checkpoints of a stage that are later than one of them; return a line about each."""
    later = numbered(checkpoint.parent)
    later = later[later.index(checkpoint) + 1 :]
    return [f"{path.name} is later; it was set aside as {_aside(path, 'later').name}" for path in reversed(later)]


def step(checkpoint: Path) -> int:
    """Return the optimizer step of a checkpoint."""
    return int(checkpoint.name.rpartition("-")[2])


def random_states(checkpoint: Path) -> int:
    """Return of how many processes a checkpoint holds the random numbers."""
    return len(list(checkpoint.glob("rng_state*.pth")))


def _aside(path: Path, why: str) -> Path:
    number = sum(1 for _ in path.parent.glob(f"{why}-*")) + 1
    return path.rename(path.parent / f"{why}-{number}-{path.name}")


def rotate(folder: Path, keep: int | None, best: str | None = None) -> None:
    """Delete all checkpoints of a stage but the newest `keep` by step, and the best one; other folders stay."""
    for path in numbered(folder)[:-keep] if keep else []:
        if path.name != Path(best or "").name:
            shutil.rmtree(path)


def numbered(folder: Path) -> list[Path]:
    """Return the folders that the trainer named by steps, by step."""
    found = [(int(match[1]), path) for path in folder.glob("checkpoint-*") if (match := _NAME.fullmatch(path.name))]
    return [path for _, path in sorted(found) if path.is_dir() and not path.is_symlink()]


def broken(checkpoint: Path, *, quick: bool = False) -> str:
    """Return why a checkpoint cannot be resumed, or an empty string; every byte of it is read unless `quick`.

    Raises:
        ResumeError: it is whole, and its library would unpickle code from it.
    """
    if not (checkpoint / SEAL).exists():
        return "it was interrupted while it was written"
    files = _files(checkpoint / SEAL)
    if not files:
        return "its seal is damaged"
    if (checkpoint / INCOMPLETE).exists():
        return f"{INCOMPLETE} lies in it"
    changed = (said for name, sealed in files.items() if (said := _changed(checkpoint / name, sealed, quick=quick)))
    reason = next(changed, "") or next(_unusable(checkpoint), "")
    if not reason:
        pickles.refuse_foreign(checkpoint)
    return reason


def _sealed(file: Path) -> dict[str, Any]:
    size = file.stat().st_size
    return {"bytes": size, "xxh3_128": prefix_digest(file, size)}


def _files(file: Path) -> dict[str, Any]:
    """Return what a seal says of each file of its checkpoint, or nothing where the seal is damaged."""
    if not file.is_file():
        return {}
    seal = read_json(file)
    if "seal" in seal:
        seal = read_sealed(file)
    # The seals of older versions have no hash of themselves: what a changed byte made of their keys and values shows.
    files = seal.get("files") if seal.keys() == {"step", "files"} else None
    return files if isinstance(files, dict) and all(map(_is_entry, files.values())) else {}


def _is_entry(sealed: Any) -> bool:
    """Return whether a value of a seal is a size and a hash, or, as in the first seals, a size alone."""
    if not isinstance(sealed, dict):
        return type(sealed) is int
    return {key: type(value) for key, value in sealed.items()} == {"bytes": int, "xxh3_128": str}


def _changed(file: Path, sealed: dict[str, Any] | int, *, quick: bool) -> str:
    """Return how a file differs from when it was sealed; the first seals held its size alone."""
    size = sealed if isinstance(sealed, int) else sealed["bytes"]
    if not file.is_file():
        return f"{file.name} is missing"
    if file.stat().st_size != size:
        return f"{file.name} has {file.stat().st_size} bytes, not {size}"
    if not quick and not isinstance(sealed, int) and prefix_digest(file, size) != sealed["xxh3_128"]:
        return f"{file.name} has other bytes than when it was saved"
    return ""


def _unusable(checkpoint: Path) -> Iterator[str]:
    """Yield what was wrong already when the checkpoint was sealed: nothing to continue with, or an unreadable file."""
    if not any(path.name.startswith(OPTIMIZERS) for path in checkpoint.iterdir()):
        yield "it holds no optimizer"
    for pattern, read in _READERS.items():
        for file in sorted(checkpoint.glob(pattern)):
            try:
                read(file)
            except Exception as error:  # noqa: BLE001 - each library has errors of its own for a damaged file
                yield f"{file.name} cannot be read: {' '.join(str(error).split())[:200]}"


def _read_state(file: Path) -> None:
    json.loads(file.read_text(encoding="utf-8"))


def _read_pickled(file: Path) -> None:
    """Read it as the trainer will, the tensors left on the disk."""
    with safe_globals():
        torch.load(file, map_location="cpu", weights_only=True, mmap=True)


def _read_tensors(file: Path) -> None:
    with safe_open(file, framework="pt") as tensors:
        tensors.keys()


_READERS: dict[str, Callable[[Path], None]] = {
    "trainer_state.json": _read_state,
    "*.safetensors": _read_tensors,
    "optimizer.pt": _read_pickled,
    "scheduler.pt": _read_pickled,
    "scaler.pt": _read_pickled,
    "rng_state*.pth": _read_pickled,
}
