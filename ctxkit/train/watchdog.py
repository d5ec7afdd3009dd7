"""Watches over the processes of a training: which of them hangs or is gone, where collectives would only wait."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import re
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from ctxkit import launch
from ctxkit.errors import CtxkitError, ExitCode, HungError
from ctxkit.rundir import RunDirectory, read_json, write_json
from ctxkit.train.pulse import SECONDS_BETWEEN_BEATS, Pulse, records

EARLIER = 0.9
"""Of torch's own timeout: what hangs is named before a collective gives up, which names nobody."""
STACKS = "hang"
"""Below the run directory: `rank-N.txt` with what each process that could still answer was doing."""
VERDICT = "verdict.json"
CHECKS = 4
"""Within the time that is waited."""
PATIENCE_SECONDS = 10.0
"""How long a process whose peer is gone waits for it to say why."""
PAUSE_SECONDS = 1.0
"""How much later than it meant to a watchdog looks where its own process was stopped."""
LONGEST = 300
"""Characters of what a collective said."""
LOST = re.compile(
    r"connection (was )?(closed|reset|refused)|broken pipe|timed out (waiting|after)|timeout|socket|remote process"
    r"|NCCL (error|communicator)|peer",
    re.IGNORECASE,
)
"""What a collective says when another process does not answer any more."""


@dataclass
class Watchdog:
    """Called every few seconds beside the work of a process; ends the process where the training hangs.

    A process whose file is not written any more is stopped or gone; one whose file is written but which does nothing
    new hangs. In the first step of an attempt nothing but the former is judged, since it may compile for long.
    """

    pulse: Pulse
    directory: RunDirectory
    _seen: dict[int, tuple[float, float]] = field(default_factory=dict)
    """The time written in the file of each process, and when it was another, by the monotonic clock."""
    _next: float | None = None
    """When it means to look again, by that clock."""

    def __call__(self) -> float | None:
        """Look once; return after how many seconds to look again."""
        self._forgive_pause()
        again = self._look()
        self._next = time.monotonic() + min(again or SECONDS_BETWEEN_BEATS, SECONDS_BETWEEN_BEATS)
        return again

    def _forgive_pause(self) -> None:
        """Count no time in which this process was stopped as a whole, as by Ctrl-Z or with its machine."""
        paused = time.monotonic() - self._next if self._next is not None else 0.0
        if paused > PAUSE_SECONDS:
            self.pulse.moved += paused
            self._seen = {rank: (written, seen + paused) for rank, (written, seen) in self._seen.items()}

    def _look(self) -> float | None:
        seconds = self.pulse.limit
        if seconds is None or not self.pulse.training:
            return None
        if self.pulse.idle >= seconds / CHECKS:  # before, nobody's files need to be read
            others = self._others()
            if self.judged():
                self._dump()
            elif self.pulse.idle >= seconds:
                self._judge(others, seconds)
        return seconds / CHECKS

    def _others(self) -> list[dict[str, Any]]:
        """Return what the other processes wrote last, and remember when that changed."""
        now, found = time.monotonic(), [record for record in self._records() if record["rank"] != self.pulse.rank]
        for record in found:
            if self._seen.get(record["rank"], (0.0, 0.0))[0] != record["time"]:
                self._seen[record["rank"]] = (record["time"], now)
        return found

    def _records(self) -> list[dict[str, Any]]:
        """Return the records of this attempt: of one before, a file may be left."""
        return [record for record in records(self.pulse.folder) if record["rank"] < launch.world_size()]

    def _unseen(self, record: dict[str, Any]) -> float:
        return time.monotonic() - self._seen[record["rank"]][1]

    def _judge(self, others: list[dict[str, Any]], seconds: float) -> None:
        """Find who is to blame, and end this process if anybody is."""
        gone = [record for record in others if "error" in record or self._unseen(record) > seconds / 2]
        if not gone and self.pulse.ended == 0:
            return  # it may compile, or another process may
        behind = gone or _behind([*others, self.pulse.record()])
        alive = [self.pulse.rank, *(record["rank"] for record in others if record not in gone)]
        said = [self._said(record, gone=record in gone) for record in behind]
        if self.pulse.rank == min(alive):
            self._end(said)
        self._dump()
        time.sleep(2 * self._courtesy)
        _leave()

    def _said(self, record: dict[str, Any], *, gone: bool) -> str:
        named = f"process {record['rank']} ({record['host']}, pid {record['pid']})"
        if "error" in record:
            return f"{named} ended: {record['error']}"
        if gone:
            silent = f"has given no sign of life for {self._unseen(record):.0f} s"
            return f"{named} {silent}; it was seen last in {record['where']}"
        return f"{named} has done nothing new for {record['idle_seconds']:.0f} s in {record['where']}"

    def _end(self, said: list[str]) -> None:
        """Write down who hangs, give the others time to write their stacks, and end."""
        error = hung(self.pulse, said or ["no process is behind the others"])
        with contextlib.suppress(OSError):
            write_json(self.pulse.folder / VERDICT, {"time": time.time(), "error": str(error)})
        self._dump()
        with contextlib.suppress(OSError):
            self.directory.update(status="failed", error=str(error), exit_code=int(ExitCode.HUNG))
        print(f"error: {error}", file=sys.stderr, flush=True)  # noqa: T201 - the thread that would say it is stuck
        time.sleep(self._courtesy)
        _leave()

    @property
    def _courtesy(self) -> float:
        """Seconds that the other processes are given to find the verdict."""
        return min(self.pulse.limit or 0.0, SECONDS_BETWEEN_BEATS)

    def judged(self) -> bool:
        """Return whether another process of this attempt found that the training hangs."""
        with contextlib.suppress(OSError):  # a disk that is away for a moment must not end the watching
            return float(read_json(self.pulse.folder / VERDICT).get("time", 0)) > self.pulse.started
        return False

    def lost(self, error: RuntimeError) -> CtxkitError:
        """Return the error of a collective that failed because another process is gone; waits for that one's word."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            if self.judged():
                _leave()  # the process that found it says so
            others = self._others()
            for record in others:
                if "error" in record:
                    return CtxkitError(self._said(record, gone=True), exit_code=ExitCode(record["exit_code"]))
            gone = [record for record in others if not _exists(record)]
            if gone:
                return hung(self.pulse, [self._said(record, gone=True) for record in gone])
            time.sleep(PATIENCE_SECONDS / 20)
        said = " ".join(str(error).split())[:LONGEST]
        return hung(self.pulse, [self._said(record, gone=False) for record in others] + [f"torch says: {said}"])

    def _dump(self) -> None:
        """Write what every thread of this process is doing."""
        folder = self.directory.path / STACKS
        with contextlib.suppress(OSError):
            folder.mkdir(exist_ok=True)
            with (folder / f"rank-{self.pulse.rank}.txt").open("w", encoding="utf-8") as file:
                faulthandler.dump_traceback(file, all_threads=True)


def hung(pulse: Pulse, said: list[str]) -> HungError:
    """Return the error that names who hangs."""
    stacks = pulse.folder.parent / STACKS
    hint = f"its checkpoints stay, and the same command goes on; what each process was doing is in {stacks}"
    return HungError("\n  ".join([f"training hangs in {pulse.where()}:", *said]), hint)


@contextmanager
def lost_said(watchdog: Watchdog) -> Iterator[None]:
    """Turn what a collective says when another process is gone into an error that names the process, and why.

    Raises:
        CtxkitError: with the message and the exit code of the process that ended first.
        HungError: it ended without a word.
    """
    try:
        yield
    except RuntimeError as error:
        if launch.world_size() == 1 or not watchdog.pulse.training or not LOST.search(str(error)):
            raise
        raise watchdog.lost(error) from error


def _leave() -> NoReturn:
    """End this process from beside the thread that is stuck in a collective."""
    launch.report(ExitCode.HUNG)
    os._exit(ExitCode.HUNG)


def _behind(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the processes that did less than others, or nobody where all did the same."""
    least, most = min(r["moves"] for r in found), max(r["moves"] for r in found)
    return [] if least == most else [record for record in found if record["moves"] == least]


def _exists(record: dict[str, Any]) -> bool:
    """Return whether a process is there, as far as its host can be asked."""
    if record["host"] != socket.gethostname():
        return True
    try:
        os.kill(record["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return _state(record["pid"]) != "Z"


def _state(pid: int) -> str:
    """Return the letter by which Linux says what state a process is in: `Z` for one that ended and was not buried."""
    with contextlib.suppress(OSError, IndexError):
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    return ""
