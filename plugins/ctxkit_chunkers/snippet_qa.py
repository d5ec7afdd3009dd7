"""Examples of numbered snippets of real files, with questions about where a name is defined."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ctxkit_chunkers.assembly import Draft
from ctxkit_chunkers.documents import Dropped, uncounted
from ctxkit_chunkers.parts import EDGES, EMPTY
from ctxkit_chunkers.snippets import LONGEST_NAME, Snippet, questions_on

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ctxkit.spec import Chunk, EncodedDocument
    from ctxkit_chunkers.markup import Edges
    from ctxkit_chunkers.snippets import Question, Snippets, Wording

NOTHING_TO_ASK = "no name to ask for among the snippets"
QUESTIONS_SHARE = 4
"""Questions take at most 1/4 of an example."""


@dataclass(frozen=True, kw_only=True)
class SnippetQaChunker:
    """Fill examples with snippets in the order of the documents, and ask at the end."""

    edges: Edges
    snippets: Snippets
    wording: Wording
    length: int
    """Tokens in the longest example."""
    questions: int
    """Asked at the end of each example, at most."""
    train_all: bool = False
    """Train everything; otherwise the answers alone."""
    seed: int = 0
    """Of the choice of names."""
    dropped: Dropped = uncounted
    """Told of begin and end tokens, of empty documents, and of snippets with nothing to ask for."""

    def __call__(self, documents: Iterable[EncodedDocument]) -> Iterator[Chunk]:
        """Yield an example whenever the next snippet does not fit into it."""
        held: list[Snippet] = []
        used, room = 0, self._room()
        for snippet in self._all(documents):
            cost = len(self.wording.marker(len(held))) + snippet.end - snippet.start
            if held and used + cost > room:
                yield from self._example(held)
                held, used = [], 0
                cost = len(self.wording.marker(0)) + snippet.end - snippet.start
            held.append(snippet)
            used += cost
        if held:
            yield from self._example(held)

    def _room(self) -> int:
        """Return how many tokens of an example are for snippets and their markers."""
        longest = len(self.wording.question("m" * LONGEST_NAME)) + len(self.wording.answer(10**6))
        asked = min(self.questions * longest, self.length // QUESTIONS_SHARE)
        return self.length - len(self.edges.begin) - len(self.edges.end) - asked

    def _all(self, documents: Iterable[EncodedDocument]) -> Iterator[Snippet]:
        for document in documents:
            start, end = self.edges.within(document)
            if start < end:
                yield from self.snippets.of(document, start, end)
            outside = len(document.input_ids) - (end - start)
            if outside or start == end:
                self.dropped(document, outside, EDGES if start < end else EMPTY)

    def _example(self, snippets: Sequence[Snippet]) -> Iterator[Chunk]:
        """Yield the example of some snippets, unless it would train nothing; then they are reported as dropped."""
        possible = questions_on(snippets)
        first = snippets[0]
        generator = random.Random(f"snippet_qa {self.seed} {first.document.document.id} {first.start}")
        chosen = generator.sample(possible, min(self.questions, len(possible)))
        if chosen or self.train_all:
            yield self._written(snippets, chosen)
            return
        for snippet in snippets:
            self.dropped(snippet.document, snippet.end - snippet.start, NOTHING_TO_ASK)

    def _written(self, snippets: Sequence[Snippet], questions: Sequence[Question]) -> Chunk:
        draft, read_only, offsets, reach = Draft(), not self.train_all, [], 0
        draft.insert(self.edges.begin, masked=read_only)
        for number, snippet in enumerate(snippets):
            offsets.append(draft.length)
            draft.insert(self.wording.marker(number), masked=read_only)
            draft.copy(snippet.document, snippet.start, snippet.end, masked=read_only)
        for question in questions:
            asked, answer = self.wording.question(question.name), self.wording.answer(question.number)
            if draft.length + len(asked) + len(answer) <= self.length - len(self.edges.end):
                reach = max(reach, draft.length - offsets[question.number])
                draft.insert(asked, masked=read_only)
                draft.insert(answer)
        draft.insert(self.edges.end, masked=read_only)
        return draft.finish(reach)
