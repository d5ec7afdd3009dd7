"""Length in characters and in tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ctxkit.spec import Document, EncodedDocument


@dataclass(frozen=True)
class LengthFilter:
    """Judge a document by its length."""

    min_characters: int
    max_characters: int | None

    def __call__(self, document: Document) -> str | None:
        """Return why the document is dropped, or None."""
        return judged(len(document.text), self.min_characters, self.max_characters, "characters")


@dataclass(frozen=True)
class TokensFilter:
    """Judge an encoded document by its length."""

    min_tokens: int
    max_tokens: int | None

    def __call__(self, document: EncodedDocument) -> str | None:
        """Return why the document is dropped, or None."""
        return judged(len(document.input_ids), self.min_tokens, self.max_tokens, "tokens")


def judged(length: int, least: int, most: int | None, unit: str) -> str | None:
    """Return why a length is outside the limits, which belong to what stays, or None."""
    if length < least:
        return f"shorter than {least} {unit}"
    if most is not None and length > most:
        return f"longer than {most} {unit}"
    return None
