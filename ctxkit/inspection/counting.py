"""How many tokens documents have: an estimate here, an exact count where the training stack may be loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ctxkit.spec import Document

CHARACTERS_PER_TOKEN = 4
BATCH_DOCUMENTS = 64
BATCH_CHARACTERS = 1 << 22


class TokenCount(Protocol):
    """Count the tokens of documents."""

    name: str
    """How it counts, for the heads of tables."""

    def __call__(self, documents: Sequence[Document]) -> Sequence[int]:
        """Return the tokens of each document."""


class Estimate:
    """Characters / 4, rounded up: near the truth for English and code, too few for most other scripts."""

    name = f"estimate: characters / {CHARACTERS_PER_TOKEN}"

    def __call__(self, documents: Sequence[Document]) -> Sequence[int]:
        """Return the estimate for each document."""
        return [-(-len(document.text) // CHARACTERS_PER_TOKEN) for document in documents]


def counted(documents: Iterable[Document], count: TokenCount) -> Iterator[tuple[Document, int]]:
    """Yield each document with its tokens, counted in batches, so that few texts are held at once."""
    batch: list[Document] = []
    characters = 0
    for document in documents:
        batch.append(document)
        characters += len(document.text)
        if len(batch) == BATCH_DOCUMENTS or characters >= BATCH_CHARACTERS:
            yield from zip(batch, count(batch), strict=True)
            batch, characters = [], 0
    yield from zip(batch, count(batch), strict=True)
