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
    """What else is known; `origin` names what the document is a version of, and all versions of one origin are set
    aside for evaluation together."""
    messages: tuple[Mapping[str, str], ...] = ()
    """Turns of a chat (`role`, `content`), encoded by the tokenizer's chat template instead of `text`; `text` then
    holds the contents alone, for filters."""


@dataclass(frozen=True)
class EncodedDocument:
    """A document with its token ids, begin and end tokens included; what a chunker reads.

    The text was encoded with special tokens split, so no text can forge a control token. `document.text` is decoded
    from the ids when it is asked for.
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
    offset: int | None = None
    """Where in the chunk they are; right after the span before, the first at the front, where None."""


@dataclass(frozen=True)
class Chunk:
    """One training example: token ids, the spans they were cut from, and which of them are not trained.

    Tokens that no span covers were inserted by the chunker: separators, paths, questions. They are counted apart.
    """

    input_ids: NDArray[np.int32]
    """Shape (tokens,); a view into the document where possible, not a copy."""
    spans: tuple[Span, ...]
    """In the order in which they stand in the chunk."""
    context_length: int = 0
    """Tokens at the front that are masked in the labels (-100), because another chunk trains them."""
    masked: tuple[tuple[int, int], ...] = ()
    """More stretches of the chunk, start and end (exclusive), that are masked in the labels."""
    reach: int = 0
    """The farthest that something in the chunk depends on something before it, in tokens; 0 where nobody knows."""
    skips: tuple[tuple[int, int], ...] = ()
    """Where positions jump: before the token at an offset of the chunk, by how many tokens; in ascending order."""

    def located(self) -> tuple[tuple[Span, int], ...]:
        """Return each span with its offset in the chunk, in tokens."""
        placed, end = [], 0
        for span in self.spans:
            offset = end if span.offset is None else span.offset
            placed.append((span, offset))
            end = offset + span.end - span.start
        return tuple(placed)
