"""Rows that stand in for those of a dataset that cannot be reached."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


FEW = 4
"""Words of a column beside the text."""


def write_rows(
    folder: Path,
    texts: Sequence[str],
    text_column: str | None,
    messages_column: str | None,
    id_column: str | None,
    metadata_columns: Sequence[str] = (),
) -> Path:
    """Write each text as a row of JSON, a chat of one question and answer where messages are read; return the file.

    Other columns hold the first words of the text.
    """
    file = folder / "rows.jsonl"
    with file.open("w", encoding="utf-8") as out:
        for number, text in enumerate(texts):
            row: dict[str, Any] = dict.fromkeys(metadata_columns, " ".join(text.split()[:FEW]))
            row |= {id_column: f"row-{number}"} if id_column else {}
            if messages_column:
                row[messages_column] = _chat(text)
            else:
                row[str(text_column)] = text
            out.write(json.dumps(row) + "\n")
    return file


def _chat(text: str) -> list[dict[str, str]]:
    half = len(text) // 2
    return [{"role": "user", "content": text[:half]}, {"role": "assistant", "content": text[half:]}]
