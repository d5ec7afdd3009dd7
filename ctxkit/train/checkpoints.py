"""Checkpoints that count: each sealed by a file written last, so that one cut short by a kill is never resumed."""

from __future__ import annotations

import re
from pathlib import Path

from ctxkit.rundir import read_json, write_json

SEAL = "ctxkit.json"
_NAME = re.compile(r"checkpoint-(\d+)")


def seal(checkpoint: Path, step: int) -> None:
    """Write the size of every file of a finished checkpoint."""
    files = {
        str(file.relative_to(checkpoint)): file.stat().st_size
        for file in sorted(checkpoint.rglob("*"))
        if file.is_file()
    }
    files.pop(SEAL, None)
    write_json(checkpoint / SEAL, {"step": step, "files": files})


def newest(folder: Path) -> tuple[Path | None, list[str]]:
    """Return the newest whole checkpoint of a stage, and a line about each one that was set aside.

    A checkpoint that is not whole is renamed to `rejected-...`, never deleted, so that nothing trips over it again.
    """
    said: list[str] = []
    found = [(int(match[1]), path) for path in folder.glob("checkpoint-*") if (match := _NAME.fullmatch(path.name))]
    for _, path in sorted(found, reverse=True):
        reason = broken(path)
        if not reason:
            return path, said
        number = sum(1 for _ in folder.glob("rejected-*")) + 1
        aside = path.rename(folder / f"rejected-{number}-{path.name}")
        said.append(f"{path.name} is not whole ({reason}); it was set aside as {aside.name}")
    return None, said


def broken(checkpoint: Path) -> str:
    """Return why a checkpoint cannot be resumed, or an empty string."""
    sealed = read_json(checkpoint / SEAL)
    if not sealed:
        return "it was interrupted while it was written"
    for name, size in sealed["files"].items():
        file = checkpoint / name
        if not file.is_file():
            return f"{name} is missing"
        if file.stat().st_size != size:
            return f"{name} has {file.stat().st_size} bytes, not {size}"
    return ""
