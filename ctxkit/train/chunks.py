"""What a chunker made of the documents of a source, as numbers: where the tokens of each chunk lie, what is masked."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ctxkit.errors import DataError
from ctxkit.spec import DIFFICULTIES, Chunk, EncodedDocument, Span
from ctxkit.train.ledger import difficulty
from ctxkit.train.malformed import WHOLE, malformed
from ctxkit.train.tokens import renamed

PLACE_BITS = 48
"""An address is the number of a file of ids above so many bits, and a token within it below."""

LARGEST_ID = 1 << 31
"""Ids are below it: the rows hold them as 32 bits with a sign."""

ReadIds = Callable[[int, int], NDArray[np.int32]]
"""Read ids of a source: from which token on, and how many."""


def address(file: int, place: int) -> int:
    """Return the address of a token: which file of ids, and which token of it."""
    return (file << PLACE_BITS) | place


class Inserted:
    """The ids that chunkers add, for a file of their own; a stretch that comes again is kept once."""

    def __init__(self, file: int) -> None:
        """Number the file among those of the rows."""
        self._file = file
        self._places: dict[bytes, int] = {}
        self.ids = array("i")

    def place(self, ids: NDArray[np.int32]) -> int:
        """Return the address of a stretch of ids."""
        key = ids.astype(np.int32).tobytes()
        if key not in self._places:
            self._places[key] = len(self.ids)
            self.ids.frombytes(key)
        return address(self._file, self._places[key])


@dataclass(slots=True)
class _Known:
    """A document that was handed to the chunker."""

    start: int
    """Of its tokens in the store."""
    length: int
    covered: int = 0
    """Tokens up to which chunks have covered it, but for the gaps."""
    gaps: list[tuple[int, int]] = field(default_factory=list)
    """Start and end of what no chunk has before that."""
    kept: int = 0
    """Tokens in chunks, each counted once."""
    dropped: int = 0
    """Tokens that the chunker said it left out."""
    chunks: int = 0

    def cover(self, start: int, end: int) -> int:
        """Remember that a chunk has tokens `start` to `end`; return how many no chunk had before."""
        anew = max(end - max(start, self.covered), 0)
        if start > self.covered:
            self.gaps.append((self.covered, start))
        elif self.gaps and start < self.covered:
            left = [part for gap in self.gaps for part in _without(gap, start, end)]
            anew += _length(self.gaps) - _length(left)
            self.gaps = left
        self.covered = max(self.covered, end)
        self.kept += anew
        return anew


class SourceChunks:
    """Collect the chunks of one source, each checked against its documents; one number a chunk in each list."""

    def __init__(
        self,
        source: int,
        window: int,
        chunker: str,
        read_ids: ReadIds,
        inserted: Inserted,
        positions: int | None = None,
    ) -> None:
        """Number the source among those of its section.

        Args:
            source: Its number.
            window: Tokens of the longest chunk.
            chunker: The kind of the chunker.
            read_ids: Reads the tokens of the source.
            inserted: Where inserted ids go.
            positions: Tokens that the positions of a chunk may span; `window` unless stated.
        """
        self.source = source
        self._positions = window if positions is None else positions
        self._window, self._chunker, self._read_ids, self._inserted = window, chunker, read_ids, inserted
        self._known: dict[str, _Known] = {}
        self.lengths, self.masked_tokens, self.kept, self.inserted, self.bands = (array("q") for _ in range(5))
        self.difficulties = array("B")
        self.starts, self.counts, self.pieces = array("q"), array("i"), array("q", [0])
        """Addresses and tokens of the pieces of all chunks in a row, and where those of each chunk end."""
        self.masked, self.masks = array("i"), array("q", [0])
        """Start and end of what is masked, likewise."""
        self.skips, self.skip_ends = array("i"), array("q", [0])
        """Place and size of each jump of positions, likewise."""
        self.trained = 0
        """Tokens that all chunks train."""
        self.dropped = Counter[str]()
        """Tokens that the chunker said it left out, by reason."""
        self.complete = False
        """Whether the chunker came to its end, rather than being stopped by a budget."""

    def __len__(self) -> int:
        """Return how many chunks there are."""
        return len(self.lengths)

    @property
    def documents_cut(self) -> int:
        """Documents that lie in more than one chunk."""
        return sum(known.chunks > 1 for known in self._known.values())

    def repeated(self, chunk: int) -> int:
        """Return the tokens of documents in a chunk that a chunk before it has."""
        return self.lengths[chunk] - self.kept[chunk] - self.inserted[chunk]

    def hand_out(self, encoded: EncodedDocument, start: int) -> EncodedDocument:
        """Remember a document and where its ids start; return it, renamed where its id was given before."""
        if encoded.document.id in self._known:
            # Spans name documents by their ids, and the ledger counts by spans.
            encoded = renamed(encoded, f"{encoded.document.id}#{len(self._known) + 1}")
        self._known[encoded.document.id] = _Known(start, len(encoded.input_ids))
        return encoded

    def drop(self, encoded: EncodedDocument, tokens: int, reason: str) -> None:
        """Count what the chunker left out of a document; what a chunker is given as `Context.dropped`.

        Raises:
            DataError: the document was not given to it, or is left out by more tokens than it has.
        """
        name = encoded.document.id
        known = self._known.get(name)
        if known is None:
            raise self._wrong(f"left out a part of the document {name!r}, which it was not given")
        if not isinstance(tokens, WHOLE) or tokens < 0:
            raise self._wrong(f"left out {tokens!r} tokens of the document {name!r}")
        if not isinstance(reason, str) or not reason.strip():
            raise self._wrong(f"left out a part of the document {name!r} for the reason {reason!r}, which says nothing")
        known.dropped += int(tokens)
        self.dropped[reason] += int(tokens)
        self._balance(name, known)

    def finish(self, *, unread: bool) -> None:
        """Say that the chunker came to its end by itself, and whether documents are left that it did not ask for.

        Raises:
            DataError: some are, or tokens that it was given are in no chunk and it did not say so.
        """
        self.complete = True
        if unread:
            raise self._wrong("ended before its documents did")
        given = sum(known.length for known in self._known.values())
        lost = given - sum(self.kept) - self.dropped.total()
        if lost:
            said = f"the chunker {self._chunker} left out {lost} of {given} tokens without saying so"
            raise DataError(said, "what it leaves out it must pass to context.dropped")

    def add(self, chunk: Chunk) -> None:
        """Keep a chunk.

        Raises:
            DataError: it names documents or tokens that are not there, holds other tokens than its spans, or those
                that were said to be left out.
        """
        if fault := malformed(chunk):
            raise self._wrong(f"gave {fault}")
        length = len(chunk.input_ids)
        if not 0 < length <= self._window:
            raise self._wrong(f"made a chunk of {length} tokens, where 1 to {self._window} are allowed")
        masked = _merged([(0, chunk.context_length), *chunk.masked])
        if masked and not 0 <= masked[0][0] <= masked[-1][1] <= length:
            raise self._wrong(f"masks tokens {masked[0][0]} to {masked[-1][1]} of a chunk of {length}")
        kept, band, end, inserted = 0, 0, 0, 0
        for span, offset in chunk.located():
            known = self._checked(chunk, span, offset, end)
            inserted += self._insert(chunk.input_ids[end:offset])
            self._piece(address(self.source, known.start + span.start), span.end - span.start)
            end = offset + span.end - span.start
            kept += known.cover(span.start, span.end)
            self._balance(span.document_id, known)
            band = max(band, known.length)
        inserted += self._insert(chunk.input_ids[end:])
        names = {span.document_id for span in chunk.spans}
        for name in names:
            self._known[name].chunks += 1
        self._skip(chunk.skips, length)
        self._end(length, masked)
        for column, value in ((self.kept, kept), (self.inserted, inserted), (self.bands, band)):
            column.append(value)
        self.difficulties.append(DIFFICULTIES.index(difficulty(length, self._window, len(names), chunk.reach)))

    def _checked(self, chunk: Chunk, span: Span, offset: int, end: int) -> _Known:
        known = self._known.get(span.document_id)
        if known is None or not 0 <= span.start < span.end <= known.length or offset < end:
            raise self._wrong(f"made a chunk with {span} at {offset}, which fits no document that it was given")
        ids = self._read_ids(known.start + span.start, span.end - span.start)
        if not np.array_equal(chunk.input_ids[offset : offset + len(ids)], ids):
            raise self._wrong(f"made a chunk that holds other tokens than its {span}")
        return known

    def _balance(self, name: str, known: _Known) -> None:
        """Refuse an account of a document that has more tokens than it."""
        if known.kept + known.dropped > known.length:
            said = f"put {known.kept} tokens of the document {name!r} into chunks and left out {known.dropped}"
            raise self._wrong(f"{said}, {known.kept + known.dropped} of {known.length}")

    def _insert(self, ids: NDArray[np.int32]) -> int:
        if len(ids):
            for value in (int(ids.min()), int(ids.max())):
                if not 0 <= value < LARGEST_ID:
                    raise self._wrong(f"inserts a token of id {value}")
            self._piece(self._inserted.place(ids), len(ids))
        return len(ids)

    def _skip(self, skips: Sequence[tuple[int, int]], length: int) -> None:
        places = [place for place, _ in skips]
        reached = length + sum(tokens for _, tokens in skips)
        if places != sorted(set(places)) or any(not 0 < place < length for place in places):
            raise self._wrong(f"lets positions jump at {places} of a chunk of {length} tokens")
        if any(tokens < 0 for _, tokens in skips) or reached > self._positions:
            raise self._wrong(f"lets positions reach {reached} tokens, where {self._positions} are allowed")
        for pair in skips:
            self.skips.extend(pair)
        self.skip_ends.append(len(self.skips))

    def _piece(self, start: int, count: int) -> None:
        self.starts.append(start)
        self.counts.append(count)

    def _end(self, length: int, masked: list[tuple[int, int]]) -> None:
        tokens = sum(end - start for start, end in masked)
        self.trained += length - tokens
        self.lengths.append(length)
        self.masked_tokens.append(tokens)
        self.pieces.append(len(self.starts))
        for pair in masked:
            self.masked.extend(pair)
        self.masks.append(len(self.masked))

    def _wrong(self, what: str) -> DataError:
        return DataError(f"the chunker {self._chunker} {what}", "this is a fault of the plugin that brings it")


def _without(stretch: tuple[int, int], start: int, end: int) -> list[tuple[int, int]]:
    """Return what is left of a stretch outside of `start` to `end`."""
    parts = [(stretch[0], min(stretch[1], start)), (max(stretch[0], end), stretch[1])]
    return [part for part in parts if part[0] < part[1]]


def _length(stretches: list[tuple[int, int]]) -> int:
    return sum(end - start for start, end in stretches)


def _merged(stretches: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return stretches in order, those that touch joined, the empty ones gone."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(stretch for stretch in stretches if stretch[1] > stretch[0]):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged
