"""What flows through the data path: documents, their token ids, and the chunks cut from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Document:
    """A text with its origin; what a source yields and a filter judges."""

    text: str
    id: str
    """Stable and unique within its source: a path, a row number, a commit."""
    group: str = ""
    """What belongs together, such as the repository of a file."""
    order: int = 0
    """The place within its group."""
    metadata: Mapping[str, str | int | float] = field(default_factory=dict)


@dataclass(frozen=True)
class EncodedDocument:
    """A document with its token ids, begin and end tokens included; what a chunker reads.

    The text was encoded with special tokens split, so no text can forge a control token.
    """

    document: Document
    input_ids: NDArray[np.int32]
    """Shape (tokens,)."""


@dataclass(frozen=True)
class Span:
    """Tokens `start` to `end` (exclusive) of one document."""

    document_id: str
    start: int
    end: int


@dataclass(frozen=True)
class Chunk:
    """One training example: token ids, the spans they were cut from, and how many of them only give context."""

    input_ids: NDArray[np.int32]
    """Shape (tokens,); a view into the document where possible, not a copy."""
    spans: tuple[Span, ...]
    context_length: int = 0
    """Tokens at the front that are masked in the labels (-100), because another chunk trains them."""
