"""Examples of numbered snippets of real files, with questions about where a name is defined."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from ctxkit_chunkers.assembly import Draft
from ctxkit_chunkers.documents import Dropped, uncounted
from ctxkit_chunkers.markup import Edges
from ctxkit_chunkers.parts import EDGES, EMPTY
from ctxkit_chunkers.snippets import LONGEST_NAME, Question, Snippet, Snippets, Wording, questions_on

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from transformers import PreTrainedTokenizerBase

    from ctxkit.spec import Chunk, EncodedDocument

NOTHING_TO_ASK = "no name to ask for among the snippets"
QUESTIONS_SHARE = 4
"""Questions take at most 1/4 of an example."""


class SnippetQaChunker:
    """Fill examples with snippets in the order of the documents, and ask at the end."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        *,
        length: int,
        snippet_length: int,
        questions: int,
        train_all: bool,
        seed: int,
        dropped: Dropped = uncounted,
    ) -> None:
        """Read the vocabulary once; lengths are in tokens.

        Args:
            tokenizer: The one that encoded the documents.
            length: Tokens in the longest example.
            snippet_length: Tokens in the longest snippet.
            questions: Asked at the end of each example, at most.
            train_all: Train everything; otherwise the answers alone.
            seed: Of the choice of names.
            dropped: Told of begin and end tokens, of empty documents, and of snippets with nothing to ask for.
        """
        self._edges = Edges.of(tokenizer)
        self._wording = Wording(tokenizer)
        self._snippets = Snippets(tokenizer, snippet_length)
        self._questions = questions
        self._train_all = train_all
        self._seed = seed
        self._dropped = dropped
        longest = len(self._wording.question("m" * LONGEST_NAME)) + len(self._wording.answer(10**6))
        self._length = length - len(self._edges.end)
        self._room = self._length - len(self._edges.begin) - min(questions * longest, length // QUESTIONS_SHARE)

    def __call__(self, documents: Iterable[EncodedDocument]) -> Iterator[Chunk]:
        """Yield an example whenever the next snippet does not fit into it."""
        held: list[Snippet] = []
        used = 0
        for snippet in self._all(documents):
            cost = len(self._wording.marker(len(held))) + snippet.end - snippet.start
            if held and used + cost > self._room:
                yield from self._example(held)
                held, used = [], 0
                cost = len(self._wording.marker(0)) + snippet.end - snippet.start
            held.append(snippet)
            used += cost
        if held:
            yield from self._example(held)

    def _all(self, documents: Iterable[EncodedDocument]) -> Iterator[Snippet]:
        for document in documents:
            start, end = self._edges.within(document)
            if start < end:
                yield from self._snippets.of(document, start, end)
            outside = len(document.input_ids) - (end - start)
            if outside or start == end:
                self._dropped(document, outside, EDGES if start < end else EMPTY)

    def _example(self, snippets: Sequence[Snippet]) -> Iterator[Chunk]:
        """Yield the example of some snippets, unless it would train nothing; then they are reported as dropped."""
        possible = questions_on(snippets)
        first = snippets[0]
        generator = random.Random(f"snippet_qa {self._seed} {first.document.document.id} {first.start}")
        chosen = generator.sample(possible, min(self._questions, len(possible)))
        if chosen or self._train_all:
            yield self._written(snippets, chosen)
            return
        for snippet in snippets:
            self._dropped(snippet.document, snippet.end - snippet.start, NOTHING_TO_ASK)

    def _written(self, snippets: Sequence[Snippet], questions: Sequence[Question]) -> Chunk:
        draft, read_only, offsets, reach = Draft(), not self._train_all, [], 0
        draft.insert(self._edges.begin, masked=read_only)
        for number, snippet in enumerate(snippets):
            offsets.append(draft.length)
            draft.insert(self._wording.marker(number), masked=read_only)
            draft.copy(snippet.document, snippet.start, snippet.end, masked=read_only)
        for question in questions:
            asked, answer = self._wording.question(question.name), self._wording.answer(question.number)
            if draft.length + len(asked) + len(answer) <= self._length:
                reach = max(reach, draft.length - offsets[question.number])
                draft.insert(asked, masked=read_only)
                draft.insert(answer)
        draft.insert(self._edges.end, masked=read_only)
        return draft.finish(reach)
