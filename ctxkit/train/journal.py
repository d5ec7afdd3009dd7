"""The journal of a search: what was measured, one JSON line each, so that nothing is measured again after a kill."""

from __future__ import annotations

import fcntl
import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from ctxkit.errors import CtxkitError, DiskError, ResumeError
from ctxkit.searches import differences


class Journal:
    """Perplexities by what was measured; the first line of the file says what determines all of them."""

    def __init__(self, file: IO[bytes], known: dict[str, float]) -> None:
        """Hold an open file, and what it says."""
        self._file = file
        self.known = known

    def record(self, key: str, perplexity: float, described: Mapping[str, Any]) -> None:
        """Append a measurement, on the disk before anything else is done; what is not finite is written as null."""
        self.known[key] = perplexity
        value = perplexity if math.isfinite(perplexity) else None
        append_line(self._file, {"key": key, "perplexity": value, **described})


@contextmanager
def opened(path: Path, determined_by: Mapping[str, Any]) -> Iterator[Journal]:
    """Hold the journal of a search for this process; the line in the middle of which a kill came is cut off.

    Raises:
        ResumeError: it is that of another search; names what differs.
        CtxkitError: another process holds it.
        DiskError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+b", buffering=0)
    except OSError as error:
        said = f"{path} cannot be written: {error.strerror}"
        raise DiskError(said, "choose another place for the result of the search") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise CtxkitError(f"another process is searching with {path}", "wait for it") from None
        header, known = _read(file, path)
        if header is None:
            append_line(file, {"determined_by": determined_by})
        elif changes := differences(header, determined_by):
            raise ResumeError(
                "\n  ".join([f"{path} holds a search with other values:", *changes]),
                "undo the change to go on with that search, or remove the file to search anew",
            )
        yield Journal(file, known)


def _read(file: IO[bytes], path: Path) -> tuple[dict[str, Any] | None, dict[str, float]]:
    """Return the first line and the measurements, and cut off what comes after the last whole line.

    Raises:
        ResumeError: the file is no journal.
    """
    file.seek(0)
    data = file.read()
    whole = data[: data.rfind(b"\n") + 1]
    file.truncate(len(whole))
    try:
        lines = [json.loads(line) for line in whole.splitlines()]
        header = lines[0]["determined_by"] if lines else None
        known = {line["key"]: math.inf if line["perplexity"] is None else line["perplexity"] for line in lines[1:]}
    except (ValueError, KeyError, TypeError) as error:
        raise ResumeError(f"{path} is no journal of a search, or is damaged", "remove it to search anew") from error
    return header, known


def append_line(file: IO[bytes], value: Mapping[str, Any]) -> None:
    """Append a line of JSON to an unbuffered file, on the disk before anything else is done."""
    view = memoryview(json.dumps(value).encode() + b"\n")
    while view:
        view = view[file.write(view) :]
    os.fsync(file.fileno())
