"""Prompts of an exact count of tokens, with statements hidden at exact places of a text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ctxkit.errors import DataError
from ctxkit_evals.chat import chat_frame
from ctxkit_evals.forks import Fork, Trunk
from ctxkit_evals.haystack import continued, encoded
from ctxkit_evals.likelihood import begin_ids

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedTokenizerBase

    from ctxkit_evals.haystack import Haystack
    from ctxkit_evals.pages import Page, Question, Statement


@dataclass(frozen=True)
class Wording:
    """How something is stated and asked for; `{...}` in the texts stands for what changes."""

    needle: str
    question: str
    preamble: str = ""
    """What the prompt begins with."""
    name: str = "{name}"
    value: str = "{key}"

    def stated(self, statement: Statement) -> str:
        """Return the sentence that is hidden."""
        return self.needle.replace(self.name, statement.name).replace(self.value, statement.value)

    def asked(self, question: Question) -> str:
        """Return what the prompt ends with."""
        *others, last = question.names
        return self.question.replace(self.name, f"{', '.join(others)}, and {last}" if others else last)


@dataclass(frozen=True)
class Ending:
    """The end of a prompt."""

    question: Question
    text: str
    ids: list[int]
    answer: list[int]


@dataclass(frozen=True)
class Hiding:
    """Makes the prompts of one length, in tokens."""

    tokenizer: PreTrainedTokenizerBase
    wording: Wording
    haystack: Haystack
    length: int
    writes: int | None = None
    """Tokens kept free at the end of the prompt; None for those of the answer."""
    chat: bool = False
    """Whether the prompt is what a user says in the chat template of the tokenizer."""

    def trunks(self, sample: int, pages: Sequence[Page]) -> list[Trunk]:
        """Return the prompts of a sample; those that differ in one statement alone share the text before it.

        Raises:
            DataError: statement and question need more tokens than a prompt has, or the haystack has too few.
        """
        if all(len(page.statements) == 1 for page in pages):
            forks = sorted((self._one(sample, page) for page in pages), key=lambda fork: fork.at)
            head = self._head()
            text = self.haystack.text(sample, forks[-1].at - len(head))
            # Of filler each sample has the same text, so prompts of one sample share no more than all do.
            return [Trunk([*head, *text], tuple(forks), sample if self.haystack.varied else None)]
        return [self._several(sample, page) for page in pages]

    def _one(self, sample: int, page: Page) -> Fork:
        ending = self._ending(page.questions[0])
        depth, needle = page.statements[0].depth, encoded(self.tokenizer, self.wording.stated(page.statements[0]))
        text = self._text(sample, needle, [ending])
        cut = round(depth * len(text))
        return self._fork(len(self._head()) + cut, [*needle, *text[cut:]], ending)

    def _several(self, sample: int, page: Page) -> Trunk:
        needles = [encoded(self.tokenizer, self.wording.stated(statement)) for statement in page.statements]
        endings = [self._ending(question) for question in page.questions]
        text = self._text(sample, [token for needle in needles for token in needle], endings)
        cuts = [0, *(round(statement.depth * len(text)) for statement in page.statements)]
        ids = self._head()
        for start, stop, needle in zip(cuts[:-1], cuts[1:], needles, strict=True):
            ids += [*text[start:stop], *needle]
        ids += text[cuts[-1] :]
        return Trunk(ids, tuple(self._fork(len(ids), [], ending) for ending in endings), sample)

    def _text(self, sample: int, hidden: Sequence[int], endings: Sequence[Ending]) -> list[int]:
        """Return as much of the haystack as there is room for beside all else."""
        last = max(len(ending.ids) + (len(ending.answer) if self.writes is None else self.writes) for ending in endings)
        room = self.length - len(self._head()) - len(hidden) - last
        if room < 0:
            raise DataError(
                f"a length of {self.length} tokens has no room for needle and question",
                f"make it {self.length - room} tokens or longer",
            )
        return self.haystack.text(sample, room)

    def _head(self) -> list[int]:
        begin = chat_frame(self.tokenizer)[0] if self.chat else begin_ids(self.tokenizer)
        return [*begin, *encoded(self.tokenizer, self.wording.preamble)]

    def _ending(self, question: Question) -> Ending:
        text = self.wording.asked(question)
        ids = encoded(self.tokenizer, text)
        answer = continued(self.tokenizer, text, ids, question.asked[0].value) if self.writes is None else []
        return Ending(question, text, [*ids, *(chat_frame(self.tokenizer)[1] if self.chat else [])], answer)

    def _fork(self, at: int, before: list[int], ending: Ending) -> Fork:
        values = tuple(statement.value for statement in ending.question.asked)
        stated = " ... ".join(self.wording.stated(statement).strip() for statement in ending.question.asked)
        return Fork(
            at=at,
            ids=[*before, *ending.ids],
            answer=ending.answer,
            input=f"{stated} ... {ending.text.strip()}",
            target=", ".join(values),
            targets=values,
            depth=ending.question.depth,
        )
