"""Rows of CSV files: every value is the text that stands there."""

from __future__ import annotations

import codecs
import csv
import sys
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from ctxkit.errors import DataError
from ctxkit_sources.decoding import UnusableError, lines
from ctxkit_sources.rows import Reading, Row, opened

if TYPE_CHECKING:
    from collections.abc import Iterator


def csv_rows(path: str, reading: Reading) -> Iterator[Row]:
    """Yield the rows below the header; columns are parted by commas, in files named `.tsv` by tabs.

    Raises:
        DataError: the header cannot be read.
    """
    # A setting of the whole process, 128 KB where nobody raised it; a document is longer.
    csv.field_size_limit(sys.maxsize)
    with opened(path) as file:
        # A map goes on behind an error; a generator would end with it.
        found = map(_decoded, lines(file, reading.max_bytes))
        delimiter = "\t" if ".tsv" in PurePath(path).suffixes else ","
        records = csv.reader(found, delimiter=delimiter, strict=True)
        header = _header(path, records)
        yield from _rows(header, records)


def _header(path: str, records: Any) -> list[str]:
    try:
        header: list[str] = next((record for record in records if record), [])
    except (csv.Error, UnusableError) as error:
        raise DataError(f"the header of {path} cannot be read: it {_fault(error).detail}") from error
    twice = next((name for name in header if header.count(name) > 1), "")
    if twice:
        raise DataError(f"the header of {path} has the column {twice} twice", "rename one of them")
    return header


def _rows(header: list[str], records: Any) -> Iterator[Row]:
    number = 0
    while True:
        line = records.line_num + 1
        try:
            record = next(records)
        except StopIteration:
            return
        except (csv.Error, UnusableError) as error:
            yield Row(number, line=line, fault=_fault(error))
        else:
            if not record:
                continue
            yield _row(number, line, header, record)
        number += 1


def _row(number: int, line: int, header: list[str], record: list[str]) -> Row:
    if len(record) != len(header):
        detail = f"has {len(record)} values for the {len(header)} columns of the header"
        return Row(number, line=line, fault=UnusableError("broken CSV", detail))
    return Row(number, dict(zip(header, record, strict=True)), line)


def _decoded(line: bytes | None) -> str:
    if line is None:
        raise UnusableError("more than max_bytes", "is a line of more than max_bytes")
    try:
        return line.decode().removeprefix(codecs.BOM_UTF8.decode())
    except UnicodeDecodeError as error:
        byte = line[error.start]
        raise UnusableError("not utf-8", f"is not utf-8: byte {byte:#04x} at {error.start} of the line") from error


def _fault(error: csv.Error | UnusableError) -> UnusableError:
    return error if isinstance(error, UnusableError) else UnusableError("broken CSV", f"is broken CSV: {error}")
