"""What becomes of a row: a document, or a reason why not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ctxkit.errors import said
from ctxkit.spec import Document
from ctxkit_sources.decoding import Newlines, UnusableError, check_surrogates, with_newlines

if TYPE_CHECKING:
    from ctxkit_sources.rows import Row

EMPTY = "empty"
"""Reason of a row without text, which is nobody's fault."""
NO_ROWS = "no rows"
"""Reason of a file without rows."""
NO_COLUMN = "no column "
"""How the reason of a row begins that lacks a column."""


@dataclass(frozen=True)
class Outcome:
    """A document in plain texts, or why there is none; plain, so that it can be stored for shuffling."""

    id: str
    text: str = ""
    messages: str = "[]"
    """The turns of a chat, as JSON."""
    metadata: str = "{}"
    """What other columns hold, as JSON."""
    reason: str = ""
    """In the same words for the same cause; nothing for a document."""
    detail: str = ""
    """Where and what, for a message."""

    def document(self) -> Document:
        """Return the document."""
        messages = tuple(json.loads(self.messages))
        return Document(self.text, id=self.id, messages=messages, metadata=json.loads(self.metadata))


@dataclass(frozen=True)
class Columns:
    """Make documents of the values in the named columns, and of nothing else."""

    text: str | None
    """The column with the text; None where there are messages."""
    messages: str | None = None
    """The column with the turns of a chat."""
    id: str | None = None
    newlines: Newlines = "normalise"
    max_bytes: int | None = None
    """The longest text, in bytes of UTF-8."""
    metadata: tuple[str, ...] = ()
    """The columns whose values go into the metadata."""

    @property
    def names(self) -> tuple[str, ...]:
        """The columns that are read."""
        named = (self.text, self.messages, self.id, *self.metadata)
        return tuple(dict.fromkeys(name for name in named if name))

    def outcome(self, row: Row, default_id: str, place: str) -> Outcome:
        """Return what becomes of a row that stands at a place, which a message names."""
        try:
            if row.fault:
                raise row.fault
            self._check_names(row)
            return self._document(row.values, default_id)
        except UnusableError as error:
            return Outcome(default_id, reason=error.reason, detail=f"{place} {error.detail}")

    def _check_names(self, row: Row) -> None:
        missing = [name for name in self.names if name not in row.values]
        if missing:
            there = ", ".join(sorted(row.columns or row.values)) or "none"
            reason = f"{NO_COLUMN}{missing[0]}"
            raise UnusableError(reason, f"has {reason}; its columns: {there}")

    def _document(self, values: Mapping[str, Any], default_id: str) -> Outcome:
        name = self._id(values) if self.id else default_id
        turns = self._turns(self.messages, values[self.messages]) if self.messages else []
        parts = [turn["content"] for turn in turns] if self.messages else [self._text(values[self.text or ""])]
        text = "\n".join(parts)
        if not any(parts):
            raise UnusableError(EMPTY, "has no text")
        if self.max_bytes is not None and len(text.encode()) > self.max_bytes:
            raise UnusableError("more than max_bytes", f"has a text of more than {self.max_bytes} bytes")
        held = {column: _plain(values[column]) for column in self.metadata if values[column] is not None}
        return Outcome(name, text, json.dumps(turns), json.dumps(held))

    def _id(self, values: Mapping[str, Any]) -> str:
        value = values[self.id or ""]
        if value is None:
            raise UnusableError("null id", f"holds null in {self.id}, not a name")
        return str(value)

    def _text(self, value: Any) -> str:
        return self._clean(value, self.text or "").removeprefix("\ufeff")

    def _clean(self, value: Any, column: str) -> str:
        if value is None:
            raise UnusableError("null", f"holds null in {column}, not text")
        if not isinstance(value, str):
            detail = f"holds {said(value)} in {column}, {type(value).__name__} and not text"
            raise UnusableError("no text", detail)
        check_surrogates(value)
        return with_newlines(value, self.newlines)

    def _turns(self, column: str, value: Any) -> list[dict[str, str]]:
        """Return the turns with their line ends as wanted; a key that holds null is as good as none."""
        if not isinstance(value, list) or not value:
            raise UnusableError("no turns", f"holds {said(value)} in {column}, not a list of turns")
        return [self._turn(f"turn {number} of {column}", turn) for number, turn in enumerate(value)]

    def _turn(self, place: str, turn: Any) -> dict[str, str]:
        if not isinstance(turn, Mapping):
            raise UnusableError("malformed turn", f"holds {said(turn)} as {place}, not role and content")
        held = {key: value for key, value in turn.items() if value is not None}
        for key in ("role", "content"):
            if key not in held:
                there = ", ".join(held) or "nothing"
                raise UnusableError("malformed turn", f"has no {key} in {place}, only {there}")
        for key, value in held.items():
            if not isinstance(value, str):
                detail = f"holds {said(value)} as {key} in {place}, {type(value).__name__} and not text"
                raise UnusableError("malformed turn", detail)
        return {key: self._clean(value, place) for key, value in held.items()}


def _plain(value: Any) -> str | int | float:
    """Return a value as metadata has it: texts and numbers as they are, lists and mappings as JSON."""
    return value if isinstance(value, str | int | float) else json.dumps(value, ensure_ascii=False, default=str)
