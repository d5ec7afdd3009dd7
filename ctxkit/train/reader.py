"""The documents of a source in order: filtered by their tokens, some set aside, all counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import xxhash

from ctxkit.recipe import EvalSplit
from ctxkit.spec import EncodedDocument, TokenFilter
from ctxkit.train.documents import SourceDocuments


class Reader:
    """Read the documents of a source in order: filter them by tokens, set some aside, count all."""

    def __init__(
        self,
        source: SourceDocuments,
        judges: Sequence[TokenFilter],
        split: EvalSplit | None,
        seed: int,
        dropped: Counter[str],
    ) -> None:
        """Start at the first document.

        Args:
            source: The documents.
            judges: Filters by tokens, shared by all sources of a section.
            split: Which documents to set aside.
            seed: Of the choice.
            dropped: Counts tokens that are left out, by reason.
        """
        self._source, self._judges, self._eval, self._seed, self._dropped = source, judges, split, seed, dropped
        self.documents = self.tokens = self.position = 0
        self.exhausted = False
        """Whether the source was read to its end."""
        self.lengths: list[int] = []
        self.dropped_documents: Counter[str] = Counter()
        self._aside: list[int] = []

    def train(self) -> Iterator[tuple[int, EncodedDocument]]:
        """Yield the documents to train on, each with its number in the store."""
        number = 0
        while (encoded := self._source.get(number)) is not None:
            self._count(number, encoded)
            reason = next((said for judge in self._judges if (said := judge(encoded)) is not None), None)
            if reason is not None:
                self.dropped_documents[reason] += 1
                self._dropped[reason] += len(encoded.input_ids)
            elif self._set_aside(encoded):
                self._aside.append(number)
            else:
                yield number, encoded
            number += 1
        self.exhausted = True

    def held_out(self) -> Iterator[tuple[int, EncodedDocument]]:
        """Yield the documents that were set aside so far."""
        for number in self._aside:
            encoded = self._source.get(number)
            if encoded is not None:
                yield number, encoded

    def _count(self, number: int, encoded: EncodedDocument) -> None:
        self.documents += 1
        self.tokens += len(encoded.input_ids)
        self.lengths.append(len(encoded.input_ids))
        self.position = self._source.store.position_of(number) + 1

    def _set_aside(self, encoded: EncodedDocument) -> bool:
        if self._eval is None:
            return False
        document = encoded.document
        name = str(document.metadata.get("origin", document.id))
        if self._eval.by == "group" and document.group:
            name = document.group
        place = xxhash.xxh3_64_intdigest(f"{self._seed} {name}".encode("utf-8", "replace"))
        return place < self._eval.share * 2**64
