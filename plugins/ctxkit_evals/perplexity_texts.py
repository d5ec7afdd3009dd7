"""The texts that perplexity is measured on: stretches of equal length, and the windows that slide over them."""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import TYPE_CHECKING

from ctxkit.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from transformers import PreTrainedTokenizerBase

    from ctxkit.spec import Document

BUCKETS = 8
"""How many parts positions have, each as long as all before it."""
CELL = 2**18
"""Tokens that a cell computes, windows that overlap counted each: seconds to a minute on an accelerator."""


@dataclass(frozen=True)
class Stretch:
    """Tokens that end at one place of one document."""

    ids: list[int]
    document_id: str
    end: int
    """The place after its last token in the document, in tokens."""

    @property
    def id(self) -> str:
        """Document and end, the same for the same stretch."""
        return f"{self.document_id}:{self.end}"


@dataclass(frozen=True)
class Window:
    """Tokens `start` to `end` (exclusive) of a text, of which the last `scored` are scored."""

    start: int
    end: int
    scored: int


@dataclass(frozen=True)
class Part:
    """The texts that one cell measures at one length."""

    length: int
    texts: Sequence[Stretch]
    first: int
    """The number of the first of them, from 1."""

    @property
    def name(self) -> str:
        """The name of the cell, for a person too."""
        return f"{self.length} tokens, texts {self.first} to {self.first + len(self.texts) - 1}"


def stretches(
    documents: Iterable[Document], tokenizer: PreTrainedTokenizerBase, tokens: int, count: int, seed: int
) -> list[Stretch]:
    """Return `count` stretches of `tokens` tokens, none twice: one a document, then another of each, and so on.

    Fewer where the documents have no more places.

    Raises:
        DataError: no document is long enough.
    """
    found = first_documents(documents, tokenizer, tokens, count)
    generator = random.Random(f"perplexity {seed}")
    rounds = -(-count // len(found))
    ends = [range(tokens, document.end + 1) for document in found]
    drawn = [generator.sample(places, min(rounds, len(places))) for places in ends]
    chosen = [
        Stretch(whole.ids[places[turn] - tokens : places[turn]], whole.document_id, places[turn])
        for turn in range(rounds)
        for whole, places in zip(found, drawn, strict=True)
        if turn < len(places)
    ]
    return chosen[:count]


def first_documents(
    documents: Iterable[Document], tokenizer: PreTrainedTokenizerBase, tokens: int, count: int
) -> list[Stretch]:
    """Return the first `count` documents of at least so many tokens, each whole.

    Raises:
        DataError: none is long enough.
    """
    found = list(islice(_long_enough(documents, tokenizer, tokens), count))
    if not found:
        raise DataError(f"perplexity: no document has {tokens} tokens", "shorten `lengths`, or choose longer texts")
    return found


def _long_enough(documents: Iterable[Document], tokenizer: PreTrainedTokenizerBase, tokens: int) -> Iterator[Stretch]:
    for document in documents:
        encoded = tokenizer(document.text, add_special_tokens=False, split_special_tokens=True, verbose=False)
        ids: list[int] = encoded["input_ids"]
        if len(ids) >= tokens:
            yield Stretch(ids, document.id, len(ids))


def stride_at(length: int, stride: int) -> int:
    """Return the steps of a window: half of it at most, so that a token has half of its window before it at least."""
    return min(stride, length // 2)


def windows(total: int, length: int, stride: int) -> list[Window]:
    """Return the windows of `length` tokens that slide over `total` tokens, and score each but the first once.

    The first scores all its tokens but the first; each later one begins `stride` tokens later, and scores those that
    are new in it (Baevski and Auli 2019; Press et al. 2022). The last begins closer where it would pass the end.
    """
    ends = [length, *(min(end, total) for end in range(length + stride, total + stride, stride))]
    first = Window(0, length, length - 1)
    return [first, *(Window(end - length, end, end - before) for before, end in pairwise(ends))]


def buckets(total: int) -> list[tuple[int, int]]:
    """Return parts of the positions 1 to `total` (exclusive), first and end: each as long as all before it."""
    edges = [total >> power for power in reversed(range(BUCKETS))]
    return list(pairwise([1, *(edge for edge in edges if edge > 1)]))


def parts(texts: Sequence[Stretch], length: int, tokens: int) -> list[Part]:
    """Return the texts in cells of about `CELL` tokens, where one of them costs `tokens`."""
    size = max(1, CELL // tokens)
    return [Part(length, texts[start : start + size], start + 1) for start in range(0, len(texts), size)]
