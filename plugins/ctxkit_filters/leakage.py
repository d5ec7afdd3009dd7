"""Training documents that hold pieces of what a model is measured on."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from ctxkit.errors import DataError
from ctxkit_filters.ngrams import ngram_hashes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from numpy.typing import NDArray
    from transformers import PreTrainedTokenizerBase

    from ctxkit.spec import Document, EncodedDocument

BATCH_DOCUMENTS = 64
"""Documents tokenised at once."""


@dataclass(frozen=True)
class LeakageFilter:
    """Judge a document by how many of its n-grams are held out; 8 bytes of memory a held-out n-gram."""

    held_out: NDArray[np.uint64]
    """Hashes of the held-out n-grams, sorted, at least one."""
    ngram: int
    max_matches: int
    max_ratio: float

    def __call__(self, document: EncodedDocument) -> str | None:
        """Return why the document is dropped, or None."""
        total = len(document.input_ids) - self.ngram + 1
        found = matches(document.input_ids, self.held_out, self.ngram)
        if found > self.max_matches and found > self.max_ratio * total:
            return f"shares {self.ngram}-grams with held-out documents"
        return None


def matches(ids: NDArray[np.int32], held_out: NDArray[np.uint64], ngram: int) -> int:
    """Return at how many places a held-out n-gram begins; `held_out` holds sorted hashes, at least one."""
    hashes = ngram_hashes(ids, ngram)
    places = np.searchsorted(held_out, hashes)
    return int(np.count_nonzero(held_out.take(places, mode="clip") == hashes))


def held_out_hashes(
    documents: Iterable[Document],
    tokenizer: PreTrainedTokenizerBase,
    ngram: int,
    skipped: Callable[[str, str], None],
) -> NDArray[np.uint64]:
    """Return the hashes of all n-grams of the documents, sorted, each once.

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
    return hashes


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
