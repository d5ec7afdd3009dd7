"""RULER's tasks on a model: greedy answers, judged by the share of what they should hold."""

from __future__ import annotations

import hashlib
import importlib.metadata
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from ctxkit.errors import DataError
from ctxkit.spec import Cells, Document, EvalReport, Measurement, Sample
from ctxkit_evals.accuracy import digest
from ctxkit_evals.greedy import Reader
from ctxkit_evals.likelihood import beyond_window
from ctxkit_evals.ruler.names import OF_RULER, OWN_TEXT, TaskName, of_words
from ctxkit_evals.ruler.scoring import average, cleaned, longest_at, measured, share_found
from ctxkit_evals.ruler.tasks import Given, made
from ctxkit_evals.ruler.texts import Texts
from ctxkit_evals.ruler.words import check_words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from ctxkit_evals.ruler.drawing import Count, Drawn, Task

CELL = 2**17
"""Tokens that a cell reads: seconds to a minute on an accelerator."""
INTERVAL = "95 %: Wilson's where samples are right or wrong, else bootstrap over samples; the mean's by their squares"
SHOWN = 400
"""Characters of the end of a prompt that a sample shows."""


@dataclass(frozen=True)
class Ruler:
    """Measure the score of each task and their mean, by length, with 95 % intervals."""

    lengths: Sequence[int]
    tasks: Sequence[TaskName]
    samples: int
    documents: Iterable[Document] | None
    more_words: tuple[str, ...]
    chat: bool
    threshold: float
    seed: int
    cells: Callable[[str, Mapping[str, Callable[[], Any]]], Cells]

    def __call__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> EvalReport:
        """Return the scores."""
        texts = Texts(tokenizer, self.chat)
        cells = {
            f"{task.name} {length} {group.start}-{group.stop - 1}": partial(_cell, model, texts, stream, group)
            for length in self.lengths
            for task in self._made(texts)
            for stream in [Stream(task, length, texts.count)]
            for group in _groups(self.samples, length)
        }
        done = self.cells("ruler", cells)
        samples = [Sample(**each) for cell in done.found.values() for each in cell]
        scores = list(self._scores(samples))
        averages = [found for found in scores if found.metric == "score"]
        metadata = {**self._metadata(samples, averages), **beyond_window(model, self.lengths)}
        return EvalReport("ruler", tuple(scores), tuple(samples), metadata, done.failed)

    def check(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Find out whether every task can be made at every length.

        Raises:
            DataError: it cannot, with the reason and the least length.
        """
        texts = Texts(tokenizer, self.chat)
        tasks = self._made(texts)
        for length in self.lengths:
            short = [task for task in tasks if not task.fits(length, texts.count)]
            if short:
                least = ", ".join(f"{task.name} needs {least_length(task, length, texts.count)}" for task in short)
                raise DataError(
                    f"{length} tokens are too short with this tokenizer, room for the answer included: {least}",
                    "make `lengths` longer, or leave tasks out of `tasks`",
                )

    def _made(self, texts: Texts) -> list[Task]:
        if of_words(self.tasks):
            check_words(of_words(self.tasks))
        text: Sequence[str] = ()
        if self.documents is not None and any(name.endswith(OWN_TEXT) for name in self.tasks):
            text = texts.words(self.documents, max(self.lengths))
        return made(self.tasks, Given(self.seed, texts.frame(), text, self.more_words))

    def _scores(self, samples: Sequence[Sample]) -> Iterator[Measurement]:
        """Yield the score of each task, and at each length where every task was measured their mean."""
        for length in self.lengths:
            tasks = []
            for name in self.tasks:
                shares = [each.score for each in samples if (each.length, each.metadata["task"]) == (length, name)]
                if shares:
                    tasks.append(measured(f"score_{name}", length, shares, self.seed))
            if len(tasks) == len(self.tasks):
                yield average("score", tasks)
            yield from tasks

    def _metadata(self, samples: Sequence[Sample], averages: Sequence[Measurement]) -> dict[str, str | int | float]:
        words = {"wonderwords": importlib.metadata.version("wonderwords")} if of_words(self.tasks) else {}
        return {
            "seed": self.seed,
            "interval": INTERVAL,
            "unit": "percent; of samples, shares",
            "prompts": hashlib.sha256("".join(sample.id for sample in samples).encode()).hexdigest()[:16],
            "judged": "greedy, generated tokens, share of the answers held",
            "template": "chat" if self.chat else "base",
            "tasks": f"{len(self.tasks)} of RULER's {OF_RULER}: the mean is not RULER's",
            "threshold": self.threshold,
            "longest_at_threshold": longest_at(self.threshold, averages),
            **words,
        }


class Stream:
    """The prompts of a task, which follow one from the other; those of a group that is not measured are passed over."""

    def __init__(self, task: Task, length: int, count: Count) -> None:
        """Begin with the first prompt."""
        self.task = task
        self.length = length
        self._count = count
        self._prompts = task.prompts(length, count)
        self._next = 0

    def __getitem__(self, group: range) -> list[Drawn]:
        """Return the prompts of a group."""
        if group.start < self._next:
            self._prompts, self._next = self.task.prompts(self.length, self._count), 0
        found = list(islice(self._prompts, group.start - self._next, group.stop - self._next))
        self._next = group.stop
        return found


def least_length(task: Task, length: int, count: Count) -> int:
    """Return the least length that a task can have, given one that is too short."""
    low, high = length, length * 2
    while not task.fits(high, count):
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if task.fits(middle, count) else (middle, high)
    return high


def _groups(samples: int, length: int) -> list[range]:
    size = max(1, CELL // length)
    return [range(start, min(start + size, samples)) for start in range(0, samples, size)]


def _cell(model: PreTrainedModel, texts: Texts, stream: Stream, group: range) -> list[dict[str, Any]]:
    return [_sample(model, texts, stream, drawn) for drawn in stream[group]]


def _sample(model: PreTrainedModel, texts: Texts, stream: Stream, drawn: Drawn) -> dict[str, Any]:
    """Return a sample as plain values. Writing ends once every answer is there: more of it changes no score."""
    ids = texts.ids(drawn.text)
    (written,) = Reader(model).write(
        [ids], stream.task.room, lambda so_far: share_found(texts.text(so_far), drawn.answers) == 1
    )
    output = texts.text(written)
    return {
        "id": digest(ids),
        "length": stream.length,
        "score": share_found(output, drawn.answers),
        "input": drawn.text[-SHOWN:],
        "target": ", ".join(drawn.answers),
        "output": cleaned(output),
        "metadata": {"task": stream.task.name, "tokens": len(ids)},
    }
