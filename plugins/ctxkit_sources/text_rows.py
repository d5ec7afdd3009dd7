"""Rows of text files: documents, paragraphs or lines."""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING

from ctxkit_sources.decoding import Decoding, UnusableError, lines
from ctxkit_sources.rows import Reading, Row, opened

if TYPE_CHECKING:
    from collections.abc import Iterator

COLUMN = "text"
"""The name that datasets gives to the one column of a text file."""


def text_rows(path: str, reading: Reading) -> Iterator[Row]:
    """Yield the whole file as one row, or each of its paragraphs or lines; blank lines are no rows."""
    with opened(path) as file:
        if reading.sample_by == "document":
            try:
                yield Row(0, {COLUMN: Decoding(newlines="keep").read(file)}, 1)
            except UnusableError as error:
                yield Row(0, line=1, fault=error)
        else:
            found = enumerate(lines(file, reading.max_bytes), start=1)
            parts = _paragraphs(found) if reading.sample_by == "paragraph" else _lines(found)
            for number, (line, part) in enumerate(parts):
                yield _row(number, line, part)


def _lines(found: Iterator[tuple[int, bytes | None]]) -> Iterator[tuple[int, bytes | None]]:
    return ((number, line) for number, line in found if line is None or line.strip())


def _paragraphs(found: Iterator[tuple[int, bytes | None]]) -> Iterator[tuple[int, bytes | None]]:
    """Yield stretches of lines that are not blank, with the number of the first; None for one with too long a line."""
    held: list[bytes | None] = []
    for number, line in found:
        if line is None or line.strip():
            held.append(line)
        elif held:
            yield number - len(held), _joined(held)
            held = []
    if held:
        yield number + 1 - len(held), _joined(held)


def _joined(held: list[bytes | None]) -> bytes | None:
    parts = [line for line in held if line is not None]
    return b"".join(parts) if len(parts) == len(held) else None


def _row(number: int, line: int, part: bytes | None) -> Row:
    if part is None:
        fault = UnusableError("more than max_bytes", "is a line of more than max_bytes")
        return Row(number, line=line, fault=fault)
    try:
        text = part.removeprefix(codecs.BOM_UTF8).decode() if number == 0 else part.decode()
    except UnicodeDecodeError as error:
        detail = f"is not utf-8: byte {part[error.start]:#04x} at {error.start} of the row"
        return Row(number, line=line, fault=UnusableError("not utf-8", detail))
    return Row(number, {COLUMN: text.removesuffix("\n").removesuffix("\r")}, line)
