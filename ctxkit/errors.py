"""The exit codes, and every way in which ctxkit tells a person that something is wrong."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, field
from enum import IntEnum

EXCERPT = 160
"""Characters of a source line that a message shows."""
SAID = 60
"""Characters of a value that a message shows."""


class ExitCode(IntEnum):
    """What the exit status of a command means; documented in `docs/exit-codes.md`."""

    DONE = 0
    FAILED = 1
    RECIPE = 2
    DATA = 3
    RESUME = 4
    NOT_FINITE = 5
    DISK = 6
    MEMORY = 7
    HUNG = 8
    PREEMPTED = 75
    INTERRUPTED = 130


@dataclass(frozen=True)
class Origin:
    """Where a value was written: a file with line and column (both from 1), or a `--set` on the command line."""

    file: str
    line: int = 0
    column: int = 0
    length: int = 1
    text: str = ""
    """The source line, for the caret beneath it."""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong in a recipe: where, what, and how to mend it."""

    path: tuple[str | int, ...]
    message: str
    hint: str = ""
    origin: Origin | None = None

    @property
    def dotted(self) -> str:
        """The path as a person writes it with `--set`: `data.sources.0.kind`."""
        return ".".join(str(part) for part in self.path)

    def render(self) -> str:
        """Return `file:line:column: path: message; hint`, then the source line with a caret beneath."""
        head = f"{self.origin}: " if self.origin else ""
        where = f"{self.dotted}: " if self.path else ""
        hint = f"; {self.hint}" if self.hint else ""
        lines = [f"{head}{where}{self.message}{hint}"]
        if self.origin and self.origin.text.strip():
            lines += _pointed(self.origin)
        return "\n".join(lines)


def said(value: object) -> str:
    """Return a value as a recipe would write it, cut where it is long."""
    words = {"None": "null", "True": "true", "False": "false"}
    text = words.get(repr(value), repr(value))
    return text if len(text) <= SAID else f"{text[:SAID]}..."


def _pointed(origin: Origin) -> list[str]:
    """Return the source line, the part around the place where it is long, and beneath it the carets."""
    first = max(origin.column - 1 - EXCERPT // 2, 0) if len(origin.text) > EXCERPT else 0
    shown = origin.text[first : first + EXCERPT]
    place = origin.column - 1 - first
    # A tab stays one, since only the terminal knows its width; a wide character takes two columns.
    gap = "".join(char if char == "\t" else " " * _columns(char) for char in shown[:place])
    marked = sum(_columns(char) for char in shown[place : place + origin.length])
    return [f"    {shown}", f"    {gap}{'^' * max(marked, 1)}"]


def _columns(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


@dataclass(eq=False)
class CtxkitError(Exception):
    """An error whose text is written for the person who reads it; the command line prints it without a traceback."""

    message: str
    hint: str = ""
    exit_code: ExitCode = field(default=ExitCode.FAILED, kw_only=True)

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


class RecipeError(CtxkitError):
    """A recipe, an option or a plugin it names cannot be used; carries every fault that was found."""

    def __init__(self, faults: list[Fault]) -> None:
        """Collect the faults; duplicates, as a fault shared by several stages gives, are said once."""
        first = {(fault.origin, fault.path[-1:], fault.message): fault for fault in reversed(faults)}
        self.faults = tuple(reversed(first.values()))
        count = len(self.faults)
        text = "\n".join(fault.render() for fault in self.faults)
        super().__init__(text, f"{count} fault{'s' if count != 1 else ''} found", exit_code=ExitCode.RECIPE)


class DataError(CtxkitError):
    """The data cannot be read, or nothing is left to train or evaluate on."""

    def __init__(self, message: str, hint: str = "") -> None:
        """Say what is wrong with which source, and how to mend it."""
        super().__init__(message, hint, exit_code=ExitCode.DATA)


class ResumeError(CtxkitError):
    """A run directory cannot be continued as asked."""

    def __init__(self, message: str, hint: str = "") -> None:
        """Say what changed or is missing, and how to go on."""
        super().__init__(message, hint, exit_code=ExitCode.RESUME)


class NotFiniteError(CtxkitError):
    """Training produced a loss or weights that are not finite; the last good checkpoint is kept."""

    def __init__(self, message: str, hint: str = "") -> None:
        """Say at which step, and what usually helps."""
        super().__init__(message, hint, exit_code=ExitCode.NOT_FINITE)


class DiskError(CtxkitError):
    """The output cannot be written: no space, no permission, or not a directory."""

    def __init__(self, message: str, hint: str = "") -> None:
        """Say which path and how many bytes are missing."""
        super().__init__(message, hint, exit_code=ExitCode.DISK)


class OutOfMemoryError(CtxkitError):
    """A device, or the machine, has not the memory that a run asks for; the checkpoints before it are kept."""

    def __init__(self, message: str, hint: str = "") -> None:
        """Say where in the run, how much was asked for and how much there is, and what would make it fit."""
        super().__init__(message, hint, exit_code=ExitCode.MEMORY)


class HungError(CtxkitError):
    """One of several processes hangs or is gone; the checkpoints before it are kept, and the same command goes on."""

    def __init__(self, message: str, hint: str = "") -> None:
        """Say which process, on which host, and when it was seen last."""
        super().__init__(message, hint, exit_code=ExitCode.HUNG)


class StoppedError(CtxkitError):
    """A signal asked the run to stop; everything finished so far is saved, and the same command goes on."""
