"""Rows of parquet and Arrow files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctxkit.errors import DataError
from ctxkit_sources.decoding import UnusableError
from ctxkit_sources.rows import Reading, Row
from ctxkit_sources.unpacking import check_ratio

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

BATCH = 64
"""Rows that are held at a time; a document may have megabytes."""
END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"
"""How a stream of Arrow record batches ends that was written to its end."""


def parquet_rows(path: str, reading: Reading) -> Iterator[Row]:
    """Yield the rows of a parquet file.

    Raises:
        DataError: it is none, or is damaged.
    """
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            check_ratio(path, _unpacked_bytes(file.metadata))
            names = file.schema_arrow.names
            wanted = [name for name in reading.columns if name in names]
            yield from _rows(file.iter_batches(BATCH, columns=wanted), names, wanted)
    except pa.ArrowException as error:
        raise DataError(f"{path} cannot be read as parquet: {error}") from error


def _unpacked_bytes(metadata: Any) -> int:
    """Return the bytes that all pages of a parquet file unpack to, as its footer says."""
    groups = (metadata.row_group(index) for index in range(metadata.num_row_groups))
    return sum(group.total_byte_size for group in groups)


def arrow_rows(path: str, reading: Reading) -> Iterator[Row]:
    """Yield the rows of an Arrow file, such as datasets keeps, mapped into memory rather than read.

    Raises:
        DataError: it is none, is damaged, or was cut off.
    """
    import pyarrow as pa

    try:
        with pa.memory_map(path) as file:
            names, batches = _batches(path, file)
            yield from _rows(batches, names, [name for name in reading.columns if name in names])
    except pa.ArrowException as error:
        raise DataError(f"{path} cannot be read as arrow: {error}") from error


def _batches(path: str, file: Any) -> tuple[Sequence[str], Iterator[Any]]:
    """Return the names of the columns and the record batches, of a file with a footer or of a stream."""
    from pyarrow import ArrowInvalid, ipc

    try:
        reader = ipc.open_file(file)
    except ArrowInvalid:
        # A stream that lost its last batches reads without a complaint, save that its end is missing.
        with Path(path).open("rb") as raw:
            raw.seek(-min(len(END_OF_STREAM), Path(path).stat().st_size), os.SEEK_END)
            if raw.read() != END_OF_STREAM:
                raise DataError(
                    f"{path} is no whole Arrow file", "it was cut off or is damaged; make it anew"
                ) from None
        file.seek(0)
        stream = ipc.open_stream(file)
        return stream.schema.names, iter(stream)
    return reader.schema.names, (reader.get_batch(index) for index in range(reader.num_record_batches))


def _rows(batches: Iterator[Any], names: Sequence[str], wanted: Sequence[str]) -> Iterator[Row]:
    number = 0
    for batch in batches:
        columns = [(name, batch.column(batch.schema.names.index(name))) for name in wanted]
        for index in range(batch.num_rows):
            yield _row(number, index, columns, names)
            number += 1


def _row(number: int, index: int, columns: Sequence[tuple[str, Any]], names: Sequence[str]) -> Row:
    try:
        return Row(number, {name: column[index].as_py() for name, column in columns}, columns=names)
    except UnicodeDecodeError as error:
        return Row(number, columns=names, fault=UnusableError("not utf-8", f"is not utf-8: {error.reason}"))
