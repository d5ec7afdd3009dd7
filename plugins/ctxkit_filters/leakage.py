"""Training documents that hold pieces of what a model is measured on."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from ctxkit.errors import DataError
from ctxkit_filters.ngrams import hash_blocks, ngram_hashes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from numpy.typing import NDArray
    from transformers import PreTrainedTokenizerBase

    from ctxkit.spec import Document, EncodedDocument

BATCH_DOCUMENTS = 64
"""Documents tokenised at once."""


@dataclass(frozen=True)
class HeldOut:
    """A set of n-grams; about 20 bytes of memory for each."""

    ngram: int
    hashes: NDArray[np.uint64]
    """Sorted, each once, at least one."""
    marks: NDArray[np.bool_]
    """Whether there is a hash with these upper bits; most n-grams of a document have none, and need no search."""

    @classmethod
    def of(cls, hashes: NDArray[np.uint64], ngram: int) -> HeldOut:
        """Return the set of hashes, which are sorted, each once, and at least one."""
        bits = (8 * len(hashes) - 1).bit_length()
        marks = np.zeros(1 << bits, dtype=np.bool_)
        marks[_upper(hashes, marks)] = True
        return cls(ngram, hashes, marks)

    def matches(self, ids: NDArray[np.int32]) -> int:
        """Return at how many places of a document an n-gram of the set begins."""
        return sum(self._found(hashes) for hashes in hash_blocks(ids, self.ngram))

    def _found(self, hashes: NDArray[np.uint64]) -> int:
        likely = hashes[self.marks[_upper(hashes, self.marks)]]
        places = np.searchsorted(self.hashes, likely)
        return int(np.count_nonzero(self.hashes.take(places, mode="clip") == likely))


@dataclass(frozen=True)
class LeakageFilter:
    """Judge a document by how many of its n-grams are held out."""

    held_out: HeldOut
    max_matches: int
    max_ratio: float

    def __call__(self, document: EncodedDocument) -> str | None:
        """Return why the document is dropped, or None."""
        ngram = self.held_out.ngram
        total = len(document.input_ids) - ngram + 1
        found = self.held_out.matches(document.input_ids)
        if found > self.max_matches and found > self.max_ratio * total:
            return f"shares {ngram}-grams with held-out documents"
        return None


def _upper(hashes: NDArray[np.uint64], table: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the upper bits of each hash, as many as number the places of a table."""
    bits = len(table).bit_length() - 1
    return (hashes >> np.uint64(64 - bits)).view(np.int64)


def held_out(
    documents: Iterable[Document],
    tokenizer: PreTrainedTokenizerBase,
    ngram: int,
    skipped: Callable[[str, str], None],
) -> HeldOut:
    """Return the set of all n-grams of the documents.

    Args:
        documents: What must not be trained on.
        tokenizer: The one that encodes the training documents.
        ngram: Tokens of an n-gram.
        skipped: Told the id of each document that is too short to be looked for, and that it is.

    Raises:
        DataError: no document has as many tokens as an n-gram.
    """
    found = []
    for document, ids in _encoded(documents, tokenizer):
        if len(ids) < ngram:
            skipped(document.id, f"held out, but shorter than {ngram} tokens: cannot be looked for")
        found.append(np.unique(ngram_hashes(ids, ngram)))
    hashes = np.unique(np.concatenate([np.empty(0, np.uint64), *found]))
    if not len(hashes):
        raise DataError(
            f"leakage: no document of `against` has {ngram} tokens", "check its sources, or choose a smaller `ngram`"
        )
    return HeldOut.of(hashes, ngram)


def _encoded(
    documents: Iterable[Document], tokenizer: PreTrainedTokenizerBase
) -> Iterator[tuple[Document, NDArray[np.int32]]]:
    """Yield the documents with their ids, encoded as training documents are but without begin and end tokens."""
    iterator = iter(documents)
    while batch := list(islice(iterator, BATCH_DOCUMENTS)):
        texts = [document.text for document in batch]
        ids = tokenizer(
            texts, add_special_tokens=False, split_special_tokens=True, return_attention_mask=False, verbose=False
        )
        for document, text_ids in zip(batch, ids["input_ids"], strict=True):
            yield document, np.array(text_ids, dtype=np.int32)
