"""Passages in which one key is stated several times."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ctxkit.errors import DataError
from ctxkit.spec import Document

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

STATEMENT = " key={key}; "
"""How the key is stated; the passkey eval of the tiny recipe asks in the same words."""
DIGITS = 5
STATEMENT_LENGTH = len(STATEMENT.format(key="0" * DIGITS))


@dataclass(frozen=True)
class KeyRecall:
    """Cut random passages out of a haystack and state a random key at random places of each."""

    haystack: Iterable[Document]
    documents: int
    length: int
    mentions: int
    seed: int

    def __iter__(self) -> Iterator[Document]:
        """Yield the documents.

        Raises:
            DataError: the haystack holds less text than one document needs.
        """
        generator = random.Random(f"key_recall {self.seed}")
        text = "\n".join(document.text for document in self.haystack)
        body_length = self.length - self.mentions * STATEMENT_LENGTH
        if len(text) <= body_length:
            raise DataError(f"the haystack of key_recall has {len(text)} characters, {body_length + 1} are needed")
        for number in range(self.documents):
            key = "".join(generator.choices("0123456789", k=DIGITS))
            start = generator.randrange(len(text) - body_length)
            body = text[start : start + body_length]
            yield Document(self._stated(body, key, generator), id=f"key_recall/{number}", metadata={"key": key})

    def _stated(self, body: str, key: str, generator: random.Random) -> str:
        cuts = sorted(generator.randrange(len(body) + 1) for _ in range(self.mentions))
        edges = [0, *cuts, len(body)]
        pieces = [body[start:end] for start, end in itertools.pairwise(edges)]
        return STATEMENT.format(key=key).join(pieces)
