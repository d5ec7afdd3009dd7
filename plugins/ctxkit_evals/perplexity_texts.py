"""The texts that perplexity is measured on: stretches of equal length, and the windows that slide over them."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import TYPE_CHECKING

import numpy as np

from ctxkit.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray
    from transformers import PreTrainedTokenizerBase

    from ctxkit.spec import Document

BUCKETS = 8
"""How many parts positions have, each as long as all before it."""
CELL = 2**18
"""Tokens that a cell computes, windows that overlap counted each: seconds to a minute on an accelerator."""


@dataclass(frozen=True, eq=False)
class Stretch:
    """Tokens that end at one place of one document."""

    ids: list[int]
    document_id: str
    end: int
    """The place after its last token in the document, in tokens."""
    text: str = ""
    """The whole document, where it was asked for."""
    offsets: NDArray[np.int64] | None = None
    """Where each token stands in `text`, first and end, shape (tokens, 2); with `text` only."""

    @property
    def id(self) -> str:
        """Document and end, the same for the same stretch."""
        return f"{self.document_id}:{self.end}"

    def cut(self, start: int, end: int) -> Stretch:
        """Return its tokens `start` to `end` (exclusive)."""
        offsets = None if self.offsets is None else self.offsets[start:end]
        place = self.end - len(self.ids) + end
        return Stretch(self.ids[start:end], self.document_id, place, self.text, offsets)


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
        last = self.first + len(self.texts) - 1
        return f"{self.length} tokens, " + (f"texts {self.first} to {last}" if last > self.first else f"text {last}")


def asked(ids: Iterable[int], *how: float | str | bool | None) -> str:
    """Return what names a measurement: the same for the same tokens in the order of `ids`, measured the same way.

    `how` is all that changes what is measured, such as length and stride; where the tokens come from is not part of it.
    """
    return hashlib.sha256(repr((how, list(ids))).encode()).hexdigest()[:16]


def all_asked(names: Iterable[str]) -> str:
    """Return one name for many of `asked`."""
    return hashlib.sha256("".join(names).encode()).hexdigest()[:16]


def stretches(found: Sequence[Stretch], tokens: int, count: int, seed: int) -> list[Stretch]:
    """Return `count` stretches of `tokens` tokens, none twice: one a document, then another of each, and so on.

    Fewer where the documents have no more places.
    """
    generator = random.Random(f"perplexity {seed}")
    rounds = -(-count // len(found))
    starts = [range(len(whole.ids) - tokens + 1) for whole in found]
    drawn = [generator.sample(places, min(rounds, len(places))) for places in starts]
    chosen = [
        whole.cut(places[turn], places[turn] + tokens)
        for turn in range(rounds)
        for whole, places in zip(found, drawn, strict=True)
        if turn < len(places)
    ]
    return chosen[:count]


def long_documents(
    task: str,
    documents: Iterable[Document],
    tokenizer: PreTrainedTokenizerBase,
    tokens: int,
    count: int,
    *,
    spelled: bool = False,
) -> list[Stretch]:
    """Return the first `count` documents of at least so many tokens, each whole; with their text where `spelled`.

    Raises:
        DataError: none is long enough.
    """
    encoded = (_encoded(document, tokenizer, spelled=spelled) for document in documents)
    found = list(islice((whole for whole in encoded if len(whole.ids) >= tokens), count))
    if not found:
        raise DataError(f"{task}: no document has {tokens} tokens", "shorten `lengths`, or choose longer texts")
    return found


def _encoded(document: Document, tokenizer: PreTrainedTokenizerBase, *, spelled: bool) -> Stretch:
    """Return a document whole, whatever length the tokenizer itself states."""
    wanted = {"return_offsets_mapping": True} if spelled else {}
    found = tokenizer(document.text, add_special_tokens=False, split_special_tokens=True, verbose=False, **wanted)
    ids: list[int] = found["input_ids"]
    if not spelled:
        return Stretch(ids, document.id, len(ids))
    offsets = np.array(found["offset_mapping"], dtype=np.int64).reshape(-1, 2)
    return Stretch(ids, document.id, len(ids), document.text, offsets)


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
