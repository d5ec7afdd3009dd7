"""Rows of local files, each with its number and line, so that nothing is guessed and a broken one can be named."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ctxkit_sources.unpacking import unpacked

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from ctxkit_sources.decoding import Newlines, UnusableError

PIECE = 1 << 16
"""Bytes that are read at a time."""
SampleBy = Literal["document", "paragraph", "line"]


@dataclass(frozen=True)
class Row:
    """One row, or what is wrong with it."""

    number: int
    """Counted from 0 in its file."""
    values: Mapping[str, Any] = field(default_factory=dict)
    line: int = 0
    """The line of the file on which it begins, counted from 1; 0 where there are no lines."""
    columns: Collection[str] = ()
    """The names of all columns, where `values` has not all."""
    fault: UnusableError | None = None


@dataclass(frozen=True)
class Reading:
    """How the files of one loader are read."""

    loader: str
    """The name that datasets gives to the format."""
    columns: tuple[str, ...]
    """The columns that are wanted."""
    sample_by: SampleBy = "document"
    """What makes a row of a text file."""
    newlines: Newlines = "normalise"
    max_bytes: int | None = None
    """The longest line that is held in memory, in bytes."""


def opened(path: str) -> io.BufferedReader:
    """Open a file for reading, unpacked where its name ends as that of a packed one.

    Raises:
        OSError: it cannot be opened.
    """
    # In a buffer of ours, so that all of them can be peeked into.
    return io.BufferedReader(unpacked(path) or Path(path).open("rb", buffering=0), PIECE)
