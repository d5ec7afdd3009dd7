"""Parts that belong together, such as the files of a repository, written one after another into examples."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING

from ctxkit.spec import BY_RULE
from ctxkit_chunkers.assembly import Draft
from ctxkit_chunkers.boundaries import LINE, cut_end

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from typing import TypeAlias

    import numpy as np
    from numpy.typing import NDArray

    from ctxkit.spec import Chunk, EncodedDocument
    from ctxkit_chunkers.boundaries import BoundaryTable
    from ctxkit_chunkers.documents import Dropped
    from ctxkit_chunkers.markup import Edges, Markup

    Reach: TypeAlias = Callable[[Sequence["Part"], Sequence[int]], int]
    """Tell the reach of an example, in tokens, from its parts and from where each begins."""

EDGES = f"{BY_RULE}begin and end tokens inside an example"
EMPTY = "empty document"
NAMES_SHARE = 8
"""A name, or a header, takes at most 1/8 of an example."""
LEAST_LENGTH = 64
"""Tokens of the shortest example in which there is room for names, special tokens and context."""


@dataclass(frozen=True)
class Part:
    """Tokens `start` to `end` (exclusive) of a document."""

    document: EncodedDocument
    start: int
    end: int
    whole: tuple[int, int]
    """Start and end of all the text of the document."""
    fields: Mapping[str, str]
    """What its header says."""

    @property
    def begins(self) -> bool:
        """Whether nothing of the document comes before."""
        return self.start == self.whole[0]

    @property
    def ends(self) -> bool:
        """Whether nothing of the document comes after."""
        return self.end == self.whole[1]

    @property
    def tokens(self) -> int:
        """How many tokens it has."""
        return self.end - self.start


def in_groups(documents: Iterable[EncodedDocument]) -> Iterator[tuple[str, Iterator[EncodedDocument]]]:
    """Yield each group that stands together, to be read before the next; a document without a group is alone."""
    for name, members in groupby(documents, key=lambda document: document.document.group):
        if name:
            yield name, members
        else:
            yield from (("", iter([member])) for member in members)


def parts_of(
    documents: Iterable[EncodedDocument],
    edges: Edges,
    fields: Callable[[EncodedDocument], Mapping[str, str]],
    dropped: Dropped,
) -> Iterator[Part]:
    """Yield each document without its begin and end tokens, which are reported as dropped; empty ones are left out."""
    for document in documents:
        start, end = edges.within(document)
        outside = len(document.input_ids) - (end - start)
        if start == end:
            dropped(document, outside, EMPTY)
            continue
        if outside:
            dropped(document, outside, EDGES)
        yield Part(document, start, end, (start, end), fields(document))


class Example:
    """An example in the making."""

    def __init__(self, markup: Markup, length: int, name: str, context: Sequence[Part] = ()) -> None:
        """Open it, with context that is masked."""
        self._markup = markup
        self._length = length - len(markup.edges.end)
        self._draft = Draft()
        self.parts: list[Part] = []
        """What it holds, context first."""
        self._offsets: list[int] = []
        self._draft.insert(markup.opening(name), masked=bool(context))
        for part in context:
            self.add(part, masked=True)
        self.fresh = True
        """Whether it has nothing but context."""

    def room(self, part: Part) -> int:
        """Return how many tokens of a part can still be added, if its end is among them."""
        header = 0 if self._goes_on(part) else len(self._header(part))
        return self._length - self._draft.length - header - len(self._markup.footer)

    def add(self, part: Part, *, masked: bool = False) -> None:
        """Append a part; its header is trained only where the document begins."""
        if not self._goes_on(part):
            self._draft.insert(self._header(part), masked=masked or not part.begins)
        self._offsets.append(self._draft.length)
        self._draft.copy(part.document, part.start, part.end, masked=masked)
        if part.ends:
            self._draft.insert(self._markup.footer, masked=masked)
        self.parts.append(part)
        self.fresh = False

    def close(self, reach: Reach) -> Chunk:
        """Return the chunk; the end token follows only where the last document is at its end."""
        if self.parts[-1].ends:
            self._draft.insert(self._markup.edges.end)
        return self._draft.finish(reach(self.parts, self._offsets))

    def _header(self, part: Part) -> NDArray[np.int32]:
        return self._markup.header(part.fields, first=not self.parts)

    def _goes_on(self, part: Part) -> bool:
        """Tell whether a part follows directly on the last one, in the same document."""
        last = self.parts[-1] if self.parts else None
        return last is not None and last.document is part.document and last.end == part.start


@dataclass(frozen=True, kw_only=True)
class PartWriter:
    """Write parts into examples in order: a part that does not fit goes to the next, a longer one is cut."""

    markup: Markup
    table: BoundaryTable
    length: int
    """Tokens in the longest example."""
    overlap: int = 0
    """Tokens of the example before that an example repeats, at most, masked."""

    def __call__(self, name: str, parts: Iterable[Part], reach: Reach) -> Iterator[Chunk]:
        """Yield the examples of the parts of one group."""
        example = Example(self.markup, self.length, name)
        for part in parts:
            if not example.fresh and part.tokens > example.room(part):
                yield example.close(reach)
                example = self._next(example, name, part)
            rest = part
            while rest.tokens > (room := example.room(rest)):
                end = rest.start + self._cut(rest, room)
                example.add(replace(rest, end=end))
                yield example.close(reach)
                rest = replace(rest, start=end)
                example = self._next(example, name, rest)
            example.add(rest)
        if not example.fresh:
            yield example.close(reach)

    def _cut(self, part: Part, room: int) -> int:
        """Return after how many of its tokens a part is cut: at the best boundary in the second half of the room."""
        ids = part.document.input_ids[part.start : part.start + room + 1]
        return cut_end(self.table.strengths(ids), 0, max(room // 2, 1), room)

    def _next(self, example: Example, name: str, part: Part) -> Example:
        """Open the example after one, with as much of it as `overlap` allows and the next part leaves room for."""
        left = self.length - len(self.markup.opening(name)) - len(self.markup.edges.end) - self._cost(part)
        budget = min(self.overlap, left) if left >= 0 else self.overlap
        return Example(self.markup, self.length, name, self._context(example.parts, budget))

    def _context(self, parts: Sequence[Part], budget: int) -> list[Part]:
        """Return the last parts that fit into so many tokens, the first of them cut at a line end if need be."""
        chosen: list[Part] = []
        for part in reversed(parts):
            room = budget - self._cost(part) + part.tokens
            if room <= 0:
                break
            kept = part if part.tokens <= room else self._tail(part, room)
            chosen.append(kept)
            budget -= self._cost(kept)
            if kept is not part:
                break
        return chosen[::-1]

    def _tail(self, part: Part, room: int) -> Part:
        """Return the last tokens of a part, from the first line that begins within the room."""
        strengths = self.table.strengths(part.document.input_ids[part.end - room - 1 : part.end])
        lines = (strengths[:-1] >= LINE).nonzero()[0]
        return replace(part, start=part.end - room + int(lines[0] if len(lines) else 0))

    def _cost(self, part: Part) -> int:
        """Return the most tokens that a part takes, with header and footer."""
        headers = [len(self.markup.header(part.fields, first=first)) for first in (True, False)]
        return max(headers) + part.tokens + len(self.markup.footer)
