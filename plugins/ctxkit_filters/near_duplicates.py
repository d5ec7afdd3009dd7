"""Documents that are nearly the same as one kept before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ctxkit_filters.lsh import LshIndex
from ctxkit_filters.minhash import signature

if TYPE_CHECKING:
    from ctxkit.spec import EncodedDocument


@dataclass(frozen=True)
class NearDuplicateFilter:
    """Judge a document by its similarity to those kept before; about 400 to 800 bytes of memory a kept document."""

    index: LshIndex
    num_perm: int
    ngram: int

    @classmethod
    def of(cls, *, threshold: float, num_perm: int, ngram: int) -> NearDuplicateFilter:
        """Return a filter that has kept nothing yet."""
        return cls(LshIndex(threshold, num_perm), num_perm, ngram)

    def __call__(self, document: EncodedDocument) -> str | None:
        """Return why the document is dropped, or None."""
        if not len(document.input_ids):
            return None
        added = self.index.add_unless_similar(signature(document.input_ids, self.num_perm, self.ngram))
        return None if added else "nearly the same as a document before"
