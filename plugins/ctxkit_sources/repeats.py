"""Random segments repeated to the end."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ctxkit.spec import Document

if TYPE_CHECKING:
    from collections.abc import Iterator

ALPHABET = "".join(chr(code) for code in range(33, 127))


@dataclass(frozen=True)
class Repeats:
    """Make documents in which all but the first period can be predicted by copying.

    The period differs from document to document, so that no fixed offset will do.
    """

    documents: int
    length: int
    periods: tuple[int, int]
    seed: int

    def __iter__(self) -> Iterator[Document]:
        """Yield the documents."""
        generator = random.Random(f"repeats {self.seed}")
        for number in range(self.documents):
            period = generator.randint(*self.periods)
            segment = "".join(generator.choices(ALPHABET, k=period))
            text = (segment * (self.length // period + 1))[: self.length]
            yield Document(text, id=f"repeats/{number}", metadata={"period": period})
