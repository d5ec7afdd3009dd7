"""Length in characters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ctxkit.spec import Document


@dataclass(frozen=True)
class LengthFilter:
    """Judge a document by its length."""

    min_characters: int
    max_characters: int | None

    def __call__(self, document: Document) -> str | None:
        """Return why the document is dropped, or None."""
        length = len(document.text)
        if length < self.min_characters:
            return f"shorter than {self.min_characters} characters"
        if self.max_characters is not None and length > self.max_characters:
            return f"longer than {self.max_characters} characters"
        return None
