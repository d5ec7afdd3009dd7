"""What the chunkers do alike with a document: leave it out when it is too short, and cut a chunk from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

from ctxkit.spec import Chunk, EncodedDocument, Span

Dropped: TypeAlias = Callable[[EncodedDocument, int, str], None]
"""Count tokens that are left out: the document, how many tokens, and why."""

LEAST = 2
"""Tokens in the shortest chunk worth training on: one to read and one to predict."""


def uncounted(document: EncodedDocument, tokens: int, reason: str) -> None:
    """Forget a drop."""
    del document, tokens, reason


def long_enough(documents: Iterable[EncodedDocument], dropped: Dropped) -> Iterator[EncodedDocument]:
    """Yield the documents of at least `LEAST` tokens, and report the others as dropped."""
    for document in documents:
        tokens = len(document.input_ids)
        if tokens < LEAST:
            dropped(document, tokens, f"document shorter than {LEAST} tokens")
        else:
            yield document


def cut(document: EncodedDocument, start: int, end: int, context_length: int = 0) -> Chunk:
    """Return tokens `start` to `end` (exclusive) as a view, the first `context_length` of them masked."""
    span = Span(document.document.id, start, end)
    return Chunk(document.input_ids[start:end], (span,), context_length)
