"""Rows of JSON files: one object a line, or one array of objects."""

from __future__ import annotations

import codecs
import itertools
import json
import re
from typing import TYPE_CHECKING, Any

from ctxkit.errors import DataError
from ctxkit_sources.decoding import Decoding, UnusableError, lines, without_end
from ctxkit_sources.rows import Reading, Row, opened

if TYPE_CHECKING:
    from collections.abc import Iterator

_SPACE = re.compile(r"[ \t\r\n]*")
SHOWN = 60
"""Characters of a broken line that a message shows."""


def json_rows(path: str, reading: Reading) -> Iterator[Row]:
    """Yield the rows of a file; blank lines are none.

    Raises:
        DataError: an array breaks off.
    """
    with opened(path) as file:
        if file.peek().removeprefix(codecs.BOM_UTF8).lstrip()[:1] == b"[":
            yield from _array(path, Decoding(newlines="keep").read(file))
        else:
            yield from _rows(lines(file, reading.max_bytes))


def _rows(found: Iterator[bytes | None]) -> Iterator[Row]:
    number = 0
    for place, line in enumerate(found, start=1):
        text = line.removeprefix(codecs.BOM_UTF8) if line and place == 1 else line
        if text is None or text.strip():
            yield _row(number, place, text)
            number += 1


def _row(number: int, place: int, line: bytes | None) -> Row:
    try:
        return Row(number, _Objects().whole(line), place)
    except UnusableError as error:
        return Row(number, line=place, fault=error)


class _Objects:
    """Decode JSON objects in which no key stands twice."""

    def __init__(self) -> None:
        self._decoder = json.JSONDecoder(object_pairs_hook=self._unique)
        self._twice = ""

    def whole(self, line: bytes | None) -> dict[str, Any]:
        """Return the one object on a line."""
        if line is None:
            raise UnusableError("more than max_bytes", "is a line of more than max_bytes")
        try:
            text = without_end(line).decode()
            value = self._decoder.decode(text)
        except UnicodeDecodeError as error:
            byte = line[error.start]
            raise UnusableError("not utf-8", f"is not utf-8: byte {byte:#04x} at {error.start} of the line") from error
        except json.JSONDecodeError as error:
            near = text[max(error.pos - SHOWN // 2, 0) :][:SHOWN].strip()
            raise UnusableError("broken JSON", f"is broken JSON: {error.msg} near {near!a}") from error
        except (ValueError, RecursionError) as error:
            # A number of thousands of digits, or brackets nested as deep.
            raise UnusableError("broken JSON", f"is JSON that cannot be read: {error}") from error
        return self._checked(value)

    def next(self, text: str, place: int) -> tuple[dict[str, Any] | UnusableError, int]:
        """Return the value at a place and where it ends; an object that cannot be used as what is wrong with it."""
        self._twice = ""
        value, end = self._decoder.raw_decode(text, place)
        try:
            return self._checked(value), end
        except UnusableError as error:
            return error, end

    def _checked(self, value: Any) -> dict[str, Any]:
        if self._twice:
            raise UnusableError("key twice", f"has the key {self._twice!a} twice")
        if not isinstance(value, dict):
            raise UnusableError("no object", f"is not an object with columns but {type(value).__name__}")
        return value

    def _unique(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        values = dict(pairs)
        if len(values) < len(pairs):
            names = [name for name, _ in pairs]
            self._twice = next(name for name in names if names.count(name) > 1)
        return values


def _array(path: str, text: str) -> Iterator[Row]:
    """Yield the objects of an array, which must be whole: behind a broken one, nobody knows where the next begins."""
    objects, line, counted = _Objects(), 1, 0
    place = _past(text, text.index("[") + 1)
    for number in itertools.count():
        if text[place : place + 1] == "]" and not number:
            return
        line, counted = line + text.count("\n", counted, place), place
        try:
            value, place = objects.next(text, place)
        except (ValueError, RecursionError) as error:
            raise _broken(path, line, str(error)) from error
        yield Row(number, line=line, fault=value) if isinstance(value, UnusableError) else Row(number, value, line)
        place = _past(text, place)
        if text[place : place + 1] == "]":
            return
        if text[place : place + 1] != ",":
            raise _broken(path, line, "no comma and no end of the array behind the object")
        place = _past(text, place + 1)


def _past(text: str, place: int) -> int:
    found = _SPACE.match(text, place)
    return found.end() if found else place


def _broken(path: str, line: int, reason: str) -> DataError:
    hint = "with one object a line instead of an array, `on_bad_row: skip` can leave out a broken one"
    return DataError(f"{path}, line {line}: the JSON array is broken: {reason}", hint)
