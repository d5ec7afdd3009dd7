"""What each process of a run is doing: known to itself, and written to a file for the others every few seconds."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ctxkit.errors import CtxkitError, ExitCode
from ctxkit.launch import world_size
from ctxkit.rundir import read_json

FOLDER = ".alive"
"""Below the run directory: `rank-N.json` of each process while it runs."""
SECONDS_BETWEEN_BEATS = 5.0
SAVING, EVALUATING = BEHIND = ("saving a checkpoint", "evaluating")
"""What is done when a step has ended."""


@dataclass
class Pulse:
    """Where a process is: set by the thread that works, read by the one that writes the file."""

    folder: Path
    rank: int
    stage: str = ""
    step: int = 0
    """Steps of the stage that ended."""
    steps: int = 0
    """Steps that it will take."""
    phase: str = "starting"
    """What it does, as a person says it: `loading`, `forward and backward`, `saving a checkpoint`, ..."""
    rows: tuple[int, int] | None = None
    """The shape of the last batch: rows, and tokens of each."""
    training: bool = False
    """Whether it is between the first step of an attempt and the last."""
    limit: float | None = None
    """Seconds for which no process may do anything new while it trains; None for any."""
    ended: int = 0
    """Steps that ended in this attempt."""
    moves: int = 0
    """How often it went on to something else."""
    moved: float = field(default_factory=time.monotonic)
    """When it last did, by the monotonic clock."""
    longest_step: float = 0.0
    """Seconds."""
    longest_save: float = 0.0
    """Seconds."""
    started: float = field(default_factory=time.time)
    """When this attempt began, in seconds since 1970."""

    def at(self, phase: str, stage: str | None = None) -> None:
        """Go on to something else, in another stage where one is named."""
        if stage is not None and stage != self.stage:
            self.stage, self.step, self.steps, self.rows = stage, 0, 0, None
        self.phase, self.moved = phase, time.monotonic()
        self.moves += 1

    def begin(self, step: int, steps: int) -> None:
        """Begin to train at a step of so many; all processes of a training count what they do from here."""
        self.step, self.steps, self.ended, self.moves, self.training = step, steps, 0, 0, True
        self.at("reading the first rows")

    @property
    def idle(self) -> float:
        """Seconds since it went on to something else."""
        return time.monotonic() - self.moved

    @property
    def file(self) -> Path:
        """Where it is written."""
        return self.folder / f"rank-{self.rank}.json"

    def where(self) -> str:
        """Return where it is in words, such as `stage base, step 3 of 8 (forward and backward)`."""
        if not self.stage:
            return self.phase
        number = self.step + (self.phase not in BEHIND)
        step = f", step {number} of {self.steps}" if self.training and self.steps else ""
        return f"stage {self.stage}{step} ({self.phase})"

    def record(self) -> dict[str, Any]:
        """Return what is written: plain values, times in seconds."""
        return {
            "rank": self.rank,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "stage": self.stage,
            "step": self.step,
            "steps": self.steps,
            "phase": self.phase,
            "where": self.where(),
            "training": self.training,
            "moves": self.moves,
            "idle_seconds": round(self.idle, 3),
            "started": self.started,
            "time": time.time(),
            **machine(),
        }

    def write(self, **more: object) -> None:
        """Write the file, whole or not at all; a disk that is full costs the file and nothing else."""
        temporary = self.file.with_suffix(f".tmp-{os.getpid()}")
        with contextlib.suppress(OSError):
            self.folder.mkdir(exist_ok=True)
            temporary.write_text(json.dumps({**self.record(), **more}), encoding="utf-8")
            temporary.replace(self.file)


@contextmanager
def beating(pulse: Pulse, each: Callable[[], float | None]) -> Iterator[None]:
    """Write the file of a process every few seconds within; `each` is called then, and may shorten the time between.

    At the end the file is removed, but where an error ends one of several processes: then it says so, for the others.
    """
    ended = threading.Event()

    def beat() -> None:
        seconds = SECONDS_BETWEEN_BEATS
        while True:
            pulse.write()
            seconds = min(each() or SECONDS_BETWEEN_BEATS, SECONDS_BETWEEN_BEATS)
            if ended.wait(seconds):
                return

    thread = threading.Thread(target=beat, name="ctxkit-pulse", daemon=True)
    thread.start()
    try:
        yield
    except BaseException as error:
        _stop(thread, ended)
        _leave(pulse, error)
        raise
    _stop(thread, ended)
    remove(pulse)


def _stop(thread: threading.Thread, ended: threading.Event) -> None:
    ended.set()
    thread.join(timeout=SECONDS_BETWEEN_BEATS)


def _leave(pulse: Pulse, error: BaseException) -> None:
    """Say to the other processes why this one ends, where there are any."""
    if world_size() == 1:
        remove(pulse)
    else:
        code = error.exit_code if isinstance(error, CtxkitError) else ExitCode.FAILED
        pulse.write(error=str(error), exit_code=int(code))


def remove(pulse: Pulse) -> None:
    """Remove the file of a process, and the folder with the last one."""
    with contextlib.suppress(OSError):
        pulse.file.unlink()
        pulse.folder.rmdir()


def records(folder: Path) -> list[dict[str, Any]]:
    """Return what the processes wrote last, by rank; one that is being replaced is left out."""
    found = []
    for file in folder.glob("rank-*.json"):
        with contextlib.suppress(OSError):
            found.append(read_json(file))
    return sorted((record for record in found if "rank" in record), key=lambda record: record["rank"])


def machine() -> dict[str, Any]:
    """Return which start of which machine this is, and how many processes its kernel ended there for want of memory."""
    killed = None
    with contextlib.suppress(OSError, ValueError, IndexError):
        counts = Path("/proc/vmstat").read_text(encoding="ascii").split()
        killed = int(counts[counts.index("oom_kill") + 1])
    boot = ""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return {"boot": boot, "oom_kills": killed}
