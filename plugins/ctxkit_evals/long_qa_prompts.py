"""Prompts of questions about a long text: the text is cut in its middle to fit, the question never."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ctxkit.errors import DataError
from ctxkit_evals.chat import chat_frame
from ctxkit_evals.forks import Fork, Trunk, shared_tokens
from ctxkit_evals.haystack import encoded
from ctxkit_evals.likelihood import begin_ids

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from transformers import PreTrainedTokenizerBase

    from ctxkit.spec import Document

CONTEXT = "{context}"
QUESTION = "{question}"


@dataclass(frozen=True)
class Question:
    """One question about a text."""

    document_id: str
    text: str
    answers: tuple[str, ...]


@dataclass(frozen=True)
class Topic:
    """A text and the questions about it."""

    context: str
    questions: tuple[Question, ...]


@dataclass(frozen=True)
class Sheet:
    """The prompts about one text, and how much of it they hold."""

    trunk: Trunk
    context: int
    """Tokens of the text."""
    cut: int
    """How many of them were left out."""


@dataclass(frozen=True)
class Prompts:
    """Makes prompts of a template with `{context}` and `{question}`."""

    tokenizer: PreTrainedTokenizerBase
    template: str
    chat: bool
    writes: int
    """Tokens kept free for the answer."""

    def sheet(self, topic: Topic, length: int, number: int) -> Sheet:
        """Return the prompts of at most `length` tokens, answer included, for all questions about a text.

        All of them hold the same tokens of the text: what the longest question leaves room for. Where it does not fit,
        its middle is left out, as LongBench does (Bai et al. 2023).

        Raises:
            DataError: a question leaves no room.
        """
        ends = [self._around(question) for question in topic.questions]
        longest = max(range(len(ends)), key=lambda index: len(ends[index][0]) + len(ends[index][1]))
        room = length - self.writes - sum(map(len, ends[longest]))
        if room < 1:
            raise DataError(
                f"long_qa: {length} tokens have no room for any text beside the question of "
                f"{topic.questions[longest].document_id}: it, the template and the answer need {length - room}",
                "make `lengths` longer, or `max_new_tokens` or `prompt` shorter",
            )
        ids = encoded(self.tokenizer, topic.context)
        kept = without_middle(ids, room)
        prompts = [[*before, *kept, *after] for before, after in ends]
        return Sheet(_trunk(prompts, topic, number), len(ids), len(ids) - len(kept))

    def _around(self, question: Question) -> tuple[list[int], list[int]]:
        """Return the tokens before the text and after it."""
        before, after = (
            encoded(self.tokenizer, part.replace(QUESTION, question.text)) for part in self.template.split(CONTEXT)
        )
        if not self.chat:
            return [*begin_ids(self.tokenizer), *before], after
        head, tail = chat_frame(self.tokenizer)
        return [*head, *before], [*after, *tail]


def without_middle(ids: list[int], room: int) -> list[int]:
    """Return the tokens, or the first and the last of them, `room` together."""
    if len(ids) <= room:
        return ids
    return [*ids[: room - room // 2], *ids[len(ids) - room // 2 :]]


def _trunk(prompts: Sequence[list[int]], topic: Topic, number: int) -> Trunk:
    """Return prompts that share the tokens with which all begin; each has one token of its own at least."""
    at = min(shared_tokens(prompts), min(map(len, prompts)) - 1)
    forks = tuple(
        Fork(at, prompt[at:], [], question.text, " / ".join(question.answers), question.answers)
        for prompt, question in zip(prompts, topic.questions, strict=True)
    )
    return Trunk(prompts[0][:at], forks, number)


def topics(documents: Iterable[Document], question: str, answers: str, count: int) -> list[Topic]:
    """Return the first `count` questions of the documents, those about the same text together.

    `question` and `answers` name what holds them in the metadata.

    Raises:
        DataError: a document has no question or no answer, or there are no documents.
    """
    found: dict[str, list[Question]] = {}
    for number, document in enumerate(documents):
        if number == count:
            break
        asked = Question(document.id, _held(document, question, "question"), _answers(document, answers))
        found.setdefault(document.text, []).append(asked)
    if not found:
        raise DataError("long_qa: the source has no documents", "choose another source")
    return [Topic(text, tuple(asked)) for text, asked in found.items()]


def _held(document: Document, key: str, option: str) -> str:
    """Return what the metadata of a document holds under a key."""
    value = document.metadata.get(key)
    if value is None or not str(value).strip():
        there = ", ".join(document.metadata) or "none"
        raise DataError(
            f"long_qa: document {document.id} has no {key!r} in its metadata; there: {there}",
            f"name the columns with `metadata_columns` of the source, and `{option}` of the eval",
        )
    return str(value)


def _answers(document: Document, key: str) -> tuple[str, ...]:
    """Return the right answers: a text, a list of texts as JSON, or SQuAD's mapping with either as `text`.

    Raises:
        DataError: there is none, or what stands there is something else.
    """
    held = _held(document, key, "answers")
    listed = _listed(held)
    if any(isinstance(answer, dict | list) for answer in listed):
        raise DataError(
            f"long_qa: document {document.id} has answers in {key!r} that are no texts: {held}",
            'a text, a list of texts, or {"text": ...} with either; JSON that is the answer itself stands in a list',
        )
    found = [str(answer) for answer in listed if answer is not None]
    if not found:
        raise DataError(f"long_qa: document {document.id} has no answer in {key!r}: {held}", "leave such rows out")
    return tuple(found)


def _listed(held: str) -> list[Any]:
    try:
        value: Any = json.loads(held)
    except ValueError:
        return [held]
    if not isinstance(value, dict):
        return value if isinstance(value, list) else [held]
    answers = value.get("text", value)
    return answers if isinstance(answers, list) else [answers]
