"""The readers of local files, by the names that datasets gives to the formats."""

from __future__ import annotations

import lzma
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from ctxkit.errors import DataError
from ctxkit_sources import columnar, csv_rows, json_rows, text_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ctxkit_sources.rows import Reading, Row

_READERS = {
    "arrow": columnar.arrow_rows,
    "csv": csv_rows.csv_rows,
    "json": json_rows.json_rows,
    "parquet": columnar.parquet_rows,
    "text": text_rows.text_rows,
}


def rows(path: str, reading: Reading) -> Iterator[Row]:
    """Yield the rows of a file; an empty file has none.

    Raises:
        DataError: it cannot be read at all, or not to its end.
    """
    try:
        if Path(path).stat().st_size:
            yield from _READERS[reading.loader](path, reading)
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path} cannot be read: {reason}", "it may be cut off or damaged; fetch it anew") from error
