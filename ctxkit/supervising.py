"""Run a launcher to its end: its processes are stopped once, with time to save, and their exit code is handed on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ctxkit.errors import ExitCode
from ctxkit.launch import STATUS, die_with_parent
from ctxkit.stopping import CODES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import FrameType

MODULES = {
    "accelerate": ["-m", "accelerate.commands.accelerate_cli"],
    "torchrun": ["-m", "torch.distributed.run"],
    "python": [],
}
"""How a launcher is started in the environment that runs ctxkit, whatever is on the path."""


def supervise(words: Sequence[str], processes: int, environment: Mapping[str, str]) -> tuple[int, str]:
    """Run the line of a launcher to its end; return the exit code of the run, and what is to be said of it.

    A launcher answers 1 whatever its processes answered, and kills them 30 seconds after it was told to stop, which may
    be in the middle of a checkpoint. So the first signal of `CODES` goes to its processes and not to it; a second
    SIGINT goes to the launcher, which ends them all.

    Args:
        words: The line, as `ctxkit.launch.launch_words` makes it.
        processes: How many processes it starts on this machine.
        environment: Variables of the launcher, beside those of this process.
    """
    stop = _Stop()
    with tempfile.TemporaryDirectory(prefix="ctxkit-launch-") as folder, stop.forwarded():
        stop.launcher = subprocess.Popen(
            [sys.executable, *MODULES[words[0]], *words[1:]],
            env={**os.environ, **environment, STATUS: folder},
            # What is typed at the terminal reaches the processes once, through us.
            start_new_session=True,
            preexec_fn=_before,  # noqa: PLW1509 - nothing else runs in this process
        )
        stop.again()
        status = stop.launcher.wait()
        return outcome(status, stop.received, _reported(Path(folder)), processes)


def _before() -> None:
    """Prepare the process that becomes the launcher."""
    die_with_parent()
    # A scheduler may send it to every process of a job, and a launcher has no handler for it.
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)


class _Stop:
    """What came, and whom it is handed on to."""

    def __init__(self) -> None:
        self.received: int = 0
        self.launcher: subprocess.Popen[bytes] | None = None

    @contextmanager
    def forwarded(self) -> Iterator[None]:
        """Hand on what comes within, and put the old handlers back after."""
        old = {number: signal.signal(number, self._handle) for number in CODES}
        try:
            yield
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)

    def again(self) -> None:
        """Hand on what came before there was a launcher."""
        if self.received:
            self._hand_on(self.received)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if not self.received:
            self.received = number
            self._hand_on(number)
        elif number == signal.SIGINT and self.launcher is not None:
            self.launcher.terminate()

    def _hand_on(self, number: int) -> None:
        if self.launcher is None:
            return
        # One that has no processes yet loses nothing when it ends.
        for process in children(self.launcher.pid) or [self.launcher.pid]:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGTERM if process == self.launcher.pid else number)


def children(parent: int) -> list[int]:
    """Return the ids of the processes that a process started; none where the system does not say."""
    found = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # ended meanwhile
            # The name in brackets may hold anything; behind it come the state and the parent.
            if int(file.read_text(errors="replace").rpartition(")")[2].split()[1]) == parent:
                found.append(int(file.parent.name))
    return found


def _reported(folder: Path) -> list[int]:
    """Return the exit codes that processes left, in the order in which they ended."""
    ended = sorted(folder.iterdir(), key=lambda file: file.stat().st_mtime_ns)
    return [int(text) for file in ended if (text := file.read_text(encoding="utf-8")).isdecimal()]


def outcome(status: int, received: int, reported: Sequence[int], processes: int) -> tuple[int, str]:
    """Return the exit code of a run, and what is to be said where no process said it.

    The first process that ended tells why, for the launcher then ends the others. Where one ended without a word and
    nobody asked for it, another's "preempted" only says that the launcher stopped it.

    Args:
        status: The exit status of the launcher; negative for a signal.
        received: The signal that was handed on, or 0.
        reported: The exit codes that the processes left, in order.
        processes: How many there were.
    """
    if status == 0:
        return ExitCode.DONE, ""
    ended = [code for code in reported if code != ExitCode.DONE]
    if received:
        return (ended or [CODES[signal.Signals(received)]])[0], ""
    silent = processes - len(reported)
    if silent > 0 and (not ended or ended[0] in CODES.values()):
        said = f"{silent} of {processes} processes ended without a word; see above what the launcher says"
        return ExitCode.FAILED, f"{said}. The system ends one so where memory is exhausted"
    return (ended or [ExitCode.FAILED])[0], ""
