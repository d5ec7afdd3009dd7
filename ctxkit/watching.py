"""Look at what a run has written, and wait until it has written more."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from ctxkit.errors import CtxkitError, ExitCode
from ctxkit.rundir import RunDirectory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

INTERVAL_SECONDS = 5.0
"""How often a watched run is looked at."""

Written: TypeAlias = tuple[tuple[str, int, int], ...]
"""Each file with its size in bytes and when it was written, in nanoseconds."""


def existing(path: str) -> RunDirectory:
    """Return a run directory that is there.

    Raises:
        CtxkitError: with exit code 2, it is none.
        DiskError: it cannot be read.
    """
    directory = RunDirectory(Path(path))
    if not directory.status():
        hint = "give the directory of a run, such as runs/NAME: it has a run.json"
        raise CtxkitError(f"{path} is not a run directory", hint, exit_code=ExitCode.RECIPE)
    return directory


def versions(
    directory: RunDirectory, wait: float = INTERVAL_SECONDS, killed: Callable[[], None] = lambda: None
) -> Iterator[bool]:
    """Yield each time when a run has written something, the first time at once: whether it is still running.

    Ends when the run has ended. One that was killed says no more: this waits for it to go on, and calls `killed`.
    """
    seen: Written | None = None
    dead = False
    while True:
        found, running = written(directory), directory.status().get("status") == "running"
        if found != seen:
            seen = found
            yield running
        if not running:
            return
        before, dead = dead, directory.killed
        if dead and not before:
            killed()
        time.sleep(wait)


def written(directory: RunDirectory) -> Written:
    """Return what tells whether a run has written something since."""
    files = [directory.path / "run.json", directory.metrics, *sorted(directory.path.glob("evals/*/*.json"))]
    return tuple(each for file in files for each in _look(file))


def _look(file: Path) -> Iterator[tuple[str, int, int]]:
    try:
        found = file.stat()
    except OSError:  # not yet written, or just replaced
        return
    yield str(file), found.st_size, found.st_mtime_ns
