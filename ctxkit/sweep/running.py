"""Run the points of a sweep one after the other, each in a process of its own; finished ones are recognised."""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ctxkit.errors import ExitCode
from ctxkit.rundir import read_json, write_json
from ctxkit.trust import trusted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from ctxkit.sweep.points import Point

STOPS = (ExitCode.PREEMPTED, ExitCode.INTERRUPTED, -signal.SIGTERM, -signal.SIGINT)
"""Exit statuses of a point that end the whole sweep: somebody asked it to stop."""


@dataclass(frozen=True)
class Sweep:
    """A recipe, the points, and where they are run."""

    recipe: str
    folder: Path
    """Holds the run directory of each point."""
    points: tuple[Point, ...]
    sets: tuple[str, ...] = ()
    plugin_files: tuple[str, ...] = ()
    others: frozenset[str] = frozenset()
    """Names of points whose run directory holds a run of another recipe."""

    def directory(self, point: Point) -> Path:
        """Return the run directory of a point."""
        return self.folder / point.name

    def words(self, point: Point) -> list[str]:
        """Return the words of the command that runs a point."""
        sets = [word for text in (*self.sets, "sweep=null", *point.sets) for word in ("--set", text)]
        plugins = [word for file in self.plugin_files for word in ("--plugin", file)]
        trusts = [word for key in sorted(trusted()) for word in ("--trust", key)]
        place = ["--run-dir", str(self.directory(point))]
        return [sys.executable, "-m", "ctxkit", "run", self.recipe, *place, *sets, *trusts, *plugins]

    def line(self, point: Point) -> str:
        """Return that command quoted for a shell."""
        return shlex.join(self.words(point))

    def status(self, point: Point) -> str:
        """Return what `run.json` of a point says; `missing` where it was not begun."""
        if point.name in self.others:
            return "another recipe"
        return str(read_json(self.directory(point) / "run.json").get("status", "missing"))

    def record(self, results: Sequence[Mapping[str, Any]]) -> None:
        """Write `sweep.json`: the recipe, the points with how far each is, and what was measured over all of them."""
        listed = [{"name": point.name, "values": point.values, "status": self.status(point)} for point in self.points]
        write_json(self.folder / "sweep.json", {"recipe": self.recipe, "points": listed, "results": list(results)})


def run_points(sweep: Sweep, chosen: Sequence[Point], say: Callable[[str], None], *, fail_fast: bool) -> int:
    """Run some points of a sweep in turn; return the exit status of the sweep.

    A point that fails is said and does not stop the others, unless `fail_fast`. A point that was asked to stop ends
    the sweep.
    """
    failed = ExitCode.DONE
    for number, point in enumerate(chosen, 1):
        say(f"point {number}/{len(chosen)}: {point.name}")
        code = _ended(sweep.words(point))
        if code in STOPS:
            return abs(code) if code > 0 else int(ExitCode.PREEMPTED)
        if code:
            say(f"point {point.name} failed with exit code {code}; see above, and {sweep.directory(point)}/run.json")
            failed = ExitCode.FAILED
            if fail_fast:
                return code
    return int(failed)


def _ended(words: Sequence[str]) -> int:
    """Run a command to its end, and return its exit status; it is told to stop when we are, saves, and ends."""
    # In a session of its own: what is typed at the terminal reaches it once, through us. Twice would end it at once.
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, start_new_session=True)
    told = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, lambda number, _: process.send_signal(number)) for number in told}
    try:
        return process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
