"""Which of the numbered snippets of a long context defines a name: the questions of `snippet_qa`, as a measurement.

The answer is judged on the model's own tokens: a prompt counts if greedy decoding gives exactly the number and the end
of the line. Because the answer is known, one forward pass over prompt and answer tells this for all its tokens at
once: greedy decoding yields it if and only if each of them is the most likely one after what stands before.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ctxkit.errors import DataError
from ctxkit.spec import Cells, Document, EncodedDocument, EvalReport, Measurement, Sample
from ctxkit.spec.intervals import wilson
from ctxkit_chunkers.markup import Edges, text_ids
from ctxkit_chunkers.snippets import LONGEST_NAME, Question, Snippet, Snippets, Wording, questions_on

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

POOL = 8
"""Snippets are drawn from the first documents of 8 times the longest length."""
SNIPPETS = 8
"""A snippet takes at most 1/8 of the shortest length."""


@dataclass(frozen=True)
class Prompt:
    """Token ids of a prompt followed by its answer."""

    ids: list[int]
    answer_length: int
    """Tokens of the answer, at the end of `ids`."""
    length: int
    depth: float
    """Where the snippet begins that is asked for, 0 at the front and 1 at the question."""

    @property
    def id(self) -> str:
        """The same for the same tokens."""
        return hashlib.sha256(np.array(self.ids, dtype=np.int64).tobytes()).hexdigest()[:16]


@dataclass(frozen=True)
class SnippetQa:
    """Measure the share of right answers by context length, with Wilson's interval."""

    documents: Iterable[Document]
    lengths: Sequence[int]
    samples: int
    batch_size: int
    seed: int
    cells: Callable[[str, Mapping[str, Callable[[], Any]]], Cells]

    def __call__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> EvalReport:
        """Return the accuracy for each length."""
        prompts = list(self.prompts(tokenizer))
        cells = {str(length): [prompt for prompt in prompts if prompt.length == length] for length in self.lengths}
        work = {name: partial(self._answered, model, asked) for name, asked in cells.items()}
        done = self.cells("snippet_qa", work)
        samples = tuple(
            Sample(prompt.id, prompt.length, float(hit), prompt.depth)
            for name, hits in done.found.items()
            for prompt, hit in zip(cells[name], hits, strict=True)
        )
        hashes = hashlib.sha256("".join(sample.id for sample in samples).encode()).hexdigest()[:16]
        metadata: dict[str, str | int | float] = {
            "seed": self.seed,
            "interval": "Wilson 95 %",
            "prompts": hashes,
            "judged": "greedy, generated tokens",
            **beyond_window(model, self.lengths),
        }
        return EvalReport("snippet_qa", tuple(self._measured(samples)), samples, metadata, done.failed)

    def _answered(self, model: PreTrainedModel, prompts: Sequence[Prompt]) -> list[bool]:
        """Return for each prompt of a cell whether the answer is right, a batch at a time."""
        batches = (prompts[start : start + self.batch_size] for start in range(0, len(prompts), self.batch_size))
        return [hit for batch in batches for hit in answered(model, batch)]

    def prompts(self, tokenizer: PreTrainedTokenizerBase) -> Iterator[Prompt]:
        """Yield the prompts; the same ones for the same seed and tokenizer, whatever the model.

        Raises:
            DataError: the documents are too short, or define no name to ask for.
        """
        maker = PromptMaker(tokenizer, self._pool(tokenizer))
        generator = random.Random(f"snippet_qa {self.seed}")
        for length in self.lengths:
            for _ in range(self.samples):
                yield maker.prompt(length, generator)

    def _pool(self, tokenizer: PreTrainedTokenizerBase) -> list[Snippet]:
        longest = max(self.lengths)
        cutter = Snippets(tokenizer, min(self.lengths) // SNIPPETS)
        pool: list[Snippet] = []
        tokens = 0
        for document in self.documents:
            ids = np.array(text_ids(tokenizer, document.text), dtype=np.int32)
            pool += cutter.of(EncodedDocument(document, ids), 0, len(ids)) if len(ids) else []
            tokens += len(ids)
            if tokens >= POOL * longest:
                break
        if tokens < longest:
            raise DataError(f"snippet_qa: the source has {tokens} tokens, {longest} are needed", "add files")
        return pool

    def _measured(self, samples: Sequence[Sample]) -> Iterator[Measurement]:
        for length in self.lengths:
            scores = [sample.score for sample in samples if sample.length == length]
            hits = int(sum(scores))
            if not scores:
                continue
            yield Measurement("accuracy", length, hits / len(scores), *wilson(hits, len(scores)), len(scores))


class PromptMaker:
    """Puts snippets and a question into a given length."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, pool: Sequence[Snippet]) -> None:
        """Take the snippets to draw from."""
        self._begin = Edges.of(tokenizer).begin
        self._wording = Wording(tokenizer)
        self._pool = pool
        self._reserve = len(self._wording.question("m" * LONGEST_NAME)) + len(self._wording.answer(len(pool)))

    def prompt(self, length: int, generator: random.Random) -> Prompt:
        """Return a prompt of at most `length` tokens, answer included, and at least that less one marker.

        Raises:
            DataError: nowhere in the snippets is a name to ask for.
        """
        first = generator.randrange(len(self._pool))
        for turn in range(len(self._pool)):
            start = (first + turn) % len(self._pool)
            snippets = self._drawn(start, length)
            sure = self._whole(snippets, length - self._reserve)
            possible = [question for question in questions_on(snippets) if question.number < sure]
            if possible:
                return self._written(snippets, generator.choice(possible), length)
        raise DataError(
            f"snippet_qa: no name is defined exactly once within {length} tokens",
            "use files of code, or longer lengths",
        )

    def _drawn(self, start: int, length: int) -> list[Snippet]:
        """Return snippets from one of the pool on, none twice, with more tokens than the prompt has room for."""
        drawn: list[Snippet] = []
        tokens = 0
        for turn in range(len(self._pool)):
            drawn.append(self._pool[(start + turn) % len(self._pool)])
            tokens += drawn[-1].end - drawn[-1].start
            if tokens >= length:
                break
        return drawn

    def _whole(self, snippets: Sequence[Snippet], room: int) -> int:
        """Return how many snippets fit into a room in tokens, markers included."""
        used = len(self._begin)
        for number, snippet in enumerate(snippets):
            used += len(self._wording.marker(number)) + snippet.end - snippet.start
            if used > room:
                return number
        return len(snippets)

    def _written(self, snippets: Sequence[Snippet], question: Question, length: int) -> Prompt:
        """Return the prompt; the last snippet is cut where the room ends."""
        asked, answer = self._wording.question(question.name), self._wording.answer(question.number)
        room = length - len(asked) - len(answer)
        ids: list[int] = self._begin.tolist()
        place = 0
        for number, snippet in enumerate(snippets):
            marker: NDArray[np.int32] = self._wording.marker(number)
            left = room - len(ids) - len(marker)
            if left <= 0:
                break
            place = len(ids) if number == question.number else place
            ids += [*marker.tolist(), *snippet.document.input_ids[snippet.start : snippet.end][:left].tolist()]
        depth = place / len(ids)
        return Prompt([*ids, *asked.tolist(), *answer.tolist()], len(answer), length, depth)


def beyond_window(model: PreTrainedModel, lengths: Sequence[int]) -> dict[str, str]:
    """Return as metadata which lengths are beyond the model's window; nothing where none is, or nothing is known."""
    window = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    beyond = [str(length) for length in lengths if window and length > window]
    return {"beyond_window": ", ".join(beyond)} if beyond else {}


def answered(model: PreTrainedModel, prompts: Sequence[Prompt]) -> list[bool]:
    """Return for each prompt whether greedy decoding gives exactly its answer."""
    import torch

    hits: dict[int, bool] = {}
    for length in {len(prompt.ids) for prompt in prompts}:
        chosen = [index for index, prompt in enumerate(prompts) if len(prompt.ids) == length]
        ids = torch.tensor([prompts[index].ids for index in chosen], device=model.device)
        keep = max(prompts[index].answer_length for index in chosen)
        logits = model(input_ids=ids[:, :-1], logits_to_keep=keep, use_cache=False).logits
        same = logits.argmax(dim=-1) == ids[:, -keep:]
        for row, index in enumerate(chosen):
            hits[index] = bool(same[row, keep - prompts[index].answer_length :].all())
    return [hits[index] for index in range(len(prompts))]
