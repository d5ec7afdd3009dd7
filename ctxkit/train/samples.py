"""A few rows as a person can read them: what was cut from where, what was added, what is masked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from ctxkit.train.chunks import PLACE_BITS, Inserted
from ctxkit.train.ledger import SourceLedger, names
from ctxkit.train.rows import Split
from ctxkit.train.tokens import TokenStore

ROWS = 6
"""Rows shown of each split: the longest of each source, the others spread over all rows."""
HEAD_TOKENS, TAIL_TOKENS = 160, 60
"""How much of a long stretch is shown."""


@dataclass(frozen=True)
class Sampler:
    """Spell rows out."""

    stores: Sequence[TokenStore]
    inserted: Inserted
    spell: Callable[[Any], str]
    """Return the text of an array of ids."""
    ledgers: Sequence[SourceLedger]

    def samples(self, splits: Mapping[str, Split]) -> list[dict[str, Any]]:
        """Return a few rows of each split, in stretches that are alike."""
        return [self._row(name, split, row) for name, split in splits.items() for row in _chosen(split)]

    def _row(self, name: str, split: Split, row: int) -> dict[str, Any]:
        chunks = [split.chosen[number] for number in split.rows[row]]
        segments = []
        for number, (source, chunk) in enumerate(chunks):
            parts = list(self._segments(split, source, chunk))
            if parts and number and split.document_mask:
                parts[0]["boundary"] = True
            segments += parts
        return {
            "split": name,
            "row": row,
            "tokens": split.lengths[row],
            "source": names(self.ledgers)[chunks[0][0]],
            "difficulty": split.difficulty[row],
            "segments": segments,
        }

    def _segments(self, split: Split, source: int, chunk: int) -> Iterator[dict[str, Any]]:
        """Yield the stretches of a chunk: pieces of documents or inserted, cut where the mask begins or ends."""
        chunks = split.sources[source]
        masked = chunks.masked[chunks.masks[chunk] : chunks.masks[chunk + 1]]
        offset = 0
        for piece in range(chunks.pieces[chunk], chunks.pieces[chunk + 1]):
            end = offset + chunks.counts[piece]
            edges = [offset, *(place for place in masked if offset < place < end), end]
            for first, last in pairwise(edges):
                hidden = any(start <= first < stop for start, stop in zip(masked[::2], masked[1::2], strict=True))
                yield self._segment(chunks.starts[piece] + first - offset, last - first, masked=hidden)
            offset = end

    def _segment(self, start: int, count: int, *, masked: bool) -> dict[str, Any]:
        file, place = start >> PLACE_BITS, start & ((1 << PLACE_BITS) - 1)
        if file == len(self.stores):
            ids, where = np.array(self.inserted.ids[place : place + count]), _INSERTED
        else:
            document, begin = self.stores[file].at(place)
            ids = self.stores[file].read_span(place, count)
            where = {"kind": "document", "document": document, "start": begin, "end": begin + count}
        omitted = max(count - HEAD_TOKENS - TAIL_TOKENS, 0)
        head, tail = (ids[:HEAD_TOKENS], ids[-TAIL_TOKENS:]) if omitted else (ids, ids[:0])
        shown = {"text": self.spell(head), "omitted": omitted, "tail": self.spell(tail)}
        return {**where, "masked": masked, "boundary": False, "tokens": count, **shown}


_INSERTED: dict[str, Any] = {"kind": "inserted"}


def _chosen(split: Split) -> list[int]:
    """Return which rows to show."""
    lengths = split.lengths
    longest: dict[int, int] = {}
    for number, row in enumerate(split.rows):
        source = split.chosen[row[0]][0]
        if source not in longest or lengths[number] > lengths[longest[source]]:
            longest[source] = number
    spread = np.linspace(0, len(lengths) - 1, num=min(ROWS, len(lengths)), dtype=int).tolist()
    return sorted({*list(longest.values())[:ROWS], *spread})[: 2 * ROWS]
