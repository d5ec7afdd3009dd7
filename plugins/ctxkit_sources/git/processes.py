"""Run git: an environment that reads no configuration, limits of time, and errors in words."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import select
import shutil
import subprocess
import tempfile
import time
from typing import IO, TYPE_CHECKING, Self, cast

from ctxkit.errors import DataError
from ctxkit_sources.git.names import readable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from _typeshed import WriteableBuffer

STALL_SECONDS = 300.0
"""Silence after which git is given up."""
BUFFER = 1 << 18
"""Bytes read at once."""
AHEAD = 1 << 12
"""Bytes that the pipe to git holds where much is read: questions that nobody has answered yet."""
PIPE = 1 << 20
"""Bytes that the pipe from git holds then, where the system allows it."""
PAUSE = 0.0002
"""Seconds in which git fills a part of such a pipe, so that neither side is woken for every few bytes."""
SAFE = {
    "GIT_ALLOW_PROTOCOL": "none",
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_FLUSH": "0",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
    "LC_ALL": "C",
    "MALLOC_MMAP_THRESHOLD_": "16777216",
    "MALLOC_TOP_PAD_": "8388608",
    "MALLOC_TRIM_THRESHOLD_": "67108864",
}
"""Read nobody's configuration, ask nothing, speak to no other machine, write in blocks, answer in English; and, with
glibc, use memory again that the last file was in, rather than get new memory from the system for each."""
SETTINGS = (
    *("-c", "core.attributesFile="),
    *("-c", "core.fsmonitor=false"),
    *("-c", f"core.hooksPath={os.devnull}"),
)
"""What the environment cannot say."""


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the variables for a git that only reads; none of the person's own `GIT_*` come through."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return {**kept, **SAFE, **(extra or {})}


def command(*arguments: str) -> list[str]:
    """Return a git command as a list of arguments.

    Raises:
        DataError: git is not installed.
    """
    program = shutil.which("git")
    if program is None:
        raise DataError("git is not installed", "install git 2.31 or later")
    return [program, *SETTINGS, *arguments]


def run(
    arguments: Sequence[str], variables: Mapping[str, str], seconds: float = 60
) -> subprocess.CompletedProcess[bytes]:
    """Run a short git command to its end, whatever its status.

    Raises:
        DataError: it took longer than `seconds`, or git is not installed.
    """
    started = subprocess.Popen(
        command(*arguments),
        env=variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        output, errors = started.communicate(timeout=seconds)
    except subprocess.TimeoutExpired as error:
        raise DataError(f"git did not finish within {seconds:.0f} seconds") from error
    finally:
        _end(started)
    return subprocess.CompletedProcess(started.args, started.returncode, output, errors)


def _end(started: subprocess.Popen[bytes]) -> None:
    """Kill git and its helpers, such as ssh, where they still run."""
    if started.poll() is None:
        os.killpg(started.pid, 9)
        started.communicate()


def words(errors: bytes) -> str:
    """Return what git said went wrong, in one line."""
    lines = [line.strip() for line in errors.decode("utf-8", "replace").splitlines()]
    fatal = [line.removeprefix("fatal: ") for line in lines if line.startswith("fatal: ")]
    return readable(" ".join(fatal or lines[-1:]) or "it gave no reason")


class Stream:
    """A git command that is read while it runs, and may be fed; leaving its `with` block ends it."""

    def __init__(
        self, arguments: Sequence[str], variables: Mapping[str, str], task: str, *, bulk: bool = False
    ) -> None:
        """Start the command.

        Args:
            arguments: What follows `git`.
            variables: Its environment.
            task: What messages call it.
            bulk: Nobody waits for single answers: rather read much at once.
        """
        self._task = task
        # A file: nobody reads it meanwhile, and a full pipe would block git.
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed in __exit__
        self._process = subprocess.Popen(
            command(*arguments), env=variables, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors
        )
        self.input = cast("IO[bytes]", self._process.stdin)
        self._raw = cast("IO[bytes]", self._process.stdout)
        large = bulk and _resized(self.input.fileno(), AHEAD) and _resized(self._raw.fileno(), PIPE)
        self.output = io.BufferedReader(_Patient(self._raw.fileno(), self._task, PAUSE if large else 0.0), BUFFER)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.kill()
        self._process.wait()
        with contextlib.suppress(BrokenPipeError):
            self.input.close()
        self._raw.close()
        self._errors.close()

    def kill(self) -> None:
        """End the command where it still runs; what waits for its output sees the end of it."""
        self._process.kill()

    def finish(self) -> None:
        """Wait for the end, once all output is read.

        Raises:
            DataError: git failed, in its own words.
        """
        if self._process.wait():
            self._errors.seek(0)
            raise DataError(f"{self._task} failed: {words(self._errors.read())}", "`git fsck` finds what is broken")


def _resized(descriptor: int, size: int) -> bool:
    """Set how much a pipe holds, and return whether it does: Linux alone can, and limits what a person has in all."""
    try:
        return fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, size) >= size
    except (AttributeError, OSError):
        return False


class _Patient(io.RawIOBase):
    """The output of a process, given up after `STALL_SECONDS` without a byte."""

    def __init__(self, descriptor: int, task: str, pause: float) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._task = task
        self._pause = pause
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLIN)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        if not self._poll.poll(STALL_SECONDS * 1000):
            raise DataError(f"{self._task} said nothing for {STALL_SECONDS:.0f} seconds and was given up")
        count = os.readv(self._descriptor, [buffer])
        if self._pause and count < BUFFER // 4:
            time.sleep(self._pause)
        return count
