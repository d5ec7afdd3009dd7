"""Questions about long texts, answered by the model and judged on what it writes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from ctxkit.spec import EvalReport, Measurement, Sample
from ctxkit_evals.accuracy import INTERVAL, clustered, digest
from ctxkit_evals.forks import written
from ctxkit_evals.likelihood import beyond_window
from ctxkit_evals.long_qa_prompts import Prompts, Sheet, Topic, topics
from ctxkit_evals.long_qa_scoring import scored

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from ctxkit.spec import Cells, Document
    from ctxkit.spec.cells import Work
    from ctxkit_evals.forks import Fork

CELL = 2**18
"""Tokens that a cell reads: seconds to a minute on an accelerator."""


@dataclass(frozen=True)
class Group:
    """The texts that one cell asks about at one length."""

    length: int
    topics: Sequence[Topic]
    first: int
    """The number of the first of them, from 1."""

    @property
    def name(self) -> str:
        """The name of the cell, for a person too."""
        return f"{self.length} tokens, texts {self.first} to {self.first + len(self.topics) - 1}"

    def sheets(self, prompts: Prompts) -> list[Sheet]:
        """Return the prompts about each text."""
        return [prompts.sheet(topic, self.length, self.first + number) for number, topic in enumerate(self.topics)]


@dataclass(frozen=True)
class LongQa:
    """Measure how near answers are to the right ones, by context length."""

    documents: Iterable[Document]
    question: str
    """The key of the metadata that holds the question."""
    answers: str
    lengths: Sequence[int]
    samples: int
    template: str
    chat: bool
    max_new_tokens: int
    stop: str | None
    metrics: Sequence[str]
    """The first is the score of a sample."""
    cells: Callable[[str, Mapping[str, Work]], Cells]
    skipped: Counter[str] = field(default_factory=Counter)
    """What `documents` left out while it was read last, by its reason: it counts here."""

    def __call__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> EvalReport:
        """Return the mean of each metric for each length."""
        groups, prompts = self.groups(), self.prompts(tokenizer)
        works = {group.name: partial(self._answered, model, group, prompts) for group in groups}
        done = self.cells("long_qa", works)
        measured = [group for group in groups if group.name in done.found]
        samples = [
            sample
            for group in measured
            for sample in self._samples(group, group.sheets(prompts), done.found[group.name])
        ]
        metadata: dict[str, str | int | float] = {
            "interval": INTERVAL,
            "prompts": digest(byte for sample in samples for byte in sample.id.encode()),
            "judged": "greedy, generated tokens, best over right answers",
            "sample_score": self.metrics[0],
            "template": "chat" if self.chat else "base",
            "cut_tokens": ", ".join(_cut(length, samples) for length in dict.fromkeys(each.length for each in samples)),
            **self._left_out(),
            **beyond_window(model, self.lengths),
        }
        return EvalReport("long_qa", tuple(self._measured(samples)), tuple(samples), metadata, done.failed)

    def prompts(self, tokenizer: PreTrainedTokenizerBase) -> Prompts:
        """Return what makes the prompts."""
        return Prompts(tokenizer, self.template, self.chat, self.max_new_tokens)

    def groups(self) -> list[Group]:
        """Return the cells.

        Raises:
            DataError: there is no question, or one without an answer.
        """
        self.skipped.clear()
        found = topics(self.documents, self.question, self.answers, self.samples)
        return [
            Group(length, found[start : start + size], start + 1)
            for length in self.lengths
            for size in [max(1, CELL // length)]
            for start in range(0, len(found), size)
        ]

    def _left_out(self) -> dict[str, str | int | float]:
        """Return as metadata how many rows the source left out before the last question, and why; nothing if none."""
        said = ", ".join(f"{count} {reason}" for reason, count in sorted(self.skipped.items()))
        return {"skipped_rows": said} if said else {}

    def _answered(self, model: PreTrainedModel, group: Group, prompts: Prompts) -> list[str]:
        """Return what the model writes to each question about each text, in order."""

        def enough(_: Fork, tokens: list[int]) -> bool:
            return self.stop is not None and self.stop in text(tokens).lstrip()

        def text(tokens: list[int]) -> str:
            return str(prompts.tokenizer.decode(tokens, skip_special_tokens=True))

        trunks = [sheet.trunk for sheet in group.sheets(prompts)]
        found = written(model, trunks, 1, self.max_new_tokens, enough)
        return [text(tokens) for of_trunk in found for tokens in of_trunk]

    def _samples(self, group: Group, sheets: Sequence[Sheet], outputs: Sequence[str]) -> Iterator[Sample]:
        asked = [(sheet, fork) for sheet in sheets for fork in sheet.trunk.forks]
        names = [question.document_id for topic in group.topics for question in topic.questions]
        for (sheet, fork), name, output in zip(asked, names, outputs, strict=True):
            answer = output.strip() if self.stop is None else output.lstrip().split(self.stop)[0].strip()
            scores = {metric: scored(metric, answer, fork.targets) for metric in self.metrics}
            prompt = sheet.trunk.prompt(fork)
            metadata: dict[str, str | int | float] = {
                "document": name,
                **sheet.trunk.metadata,
                "prompt_tokens": len(prompt),
                "context_tokens": sheet.context,
                "cut_tokens": sheet.cut,
                **scores,
            }
            yield Sample(
                digest(prompt), group.length, scores[self.metrics[0]], None, fork.input, fork.target, answer, metadata
            )

    def _measured(self, samples: Sequence[Sample]) -> Iterator[Measurement]:
        for length in dict.fromkeys(sample.length for sample in samples):
            here = [sample for sample in samples if sample.length == length]
            for metric in self.metrics:
                by_text: dict[object, list[float]] = {}
                for sample in here:
                    by_text.setdefault(sample.metadata["sample"], []).append(float(sample.metadata[metric]))
                mean = sum(sum(scores) for scores in by_text.values()) / len(here)
                yield Measurement(metric, length, mean, *clustered(list(by_text.values())), len(here))


def _cut(length: int, samples: Sequence[Sample]) -> str:
    """Return how many tokens of the texts were left out at a length, each text counted once."""
    texts = {sample.metadata["sample"]: sample.metadata for sample in samples if sample.length == length}
    cut, whole = (sum(int(each[key]) for each in texts.values()) for key in ("cut_tokens", "context_tokens"))
    return f"{cut} of {whole} at {length}"
