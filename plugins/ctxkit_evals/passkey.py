"""Passkey retrieval: a key hidden in a text, asked for at its end (Mohtashami and Jaggi 2023).

The answer is judged on the model's own tokens only: a prompt counts if greedy decoding gives exactly the key. Because
the key's tokens are known, one forward pass over prompt and key tells this for all of them at once: greedy decoding
yields the key if and only if each of its tokens is the most likely one after the prompt and the tokens before it.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ctxkit.errors import DataError
from ctxkit.spec import Document, EvalReport, Measurement, Sample
from ctxkit.spec.intervals import wilson

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from transformers import PreTrainedModel, PreTrainedTokenizerBase

DIGITS = 5


@dataclass(frozen=True)
class Wording:
    """How the key is stated and asked for."""

    needle: str
    question: str


@dataclass(frozen=True)
class Prompt:
    """Token ids of a prompt followed by its answer."""

    ids: list[int]
    answer_length: int
    """Tokens of the answer, at the end of `ids`."""
    length: int
    depth: float

    @property
    def id(self) -> str:
        """The same for the same tokens."""
        return hashlib.sha256(np.array(self.ids, dtype=np.int64).tobytes()).hexdigest()[:16]


@dataclass(frozen=True)
class Passkey:
    """Measure the share of keys that a model recalls, by length and depth, with Wilson's interval."""

    documents: Iterable[Document]
    lengths: Sequence[int]
    depths: Sequence[float]
    samples: int
    wording: Wording
    batch_size: int
    seed: int
    track: Callable[[Iterable[Any], str, int], Iterator[Any]]

    def __call__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> EvalReport:
        """Return accuracy for each length and depth, and for each length over all depths."""
        prompts = list(self.prompts(tokenizer))
        batches = [prompts[start : start + self.batch_size] for start in range(0, len(prompts), self.batch_size)]
        right: list[bool] = []
        for batch in self.track(batches, "passkey", len(batches)):
            right += recalled(model, batch)
        samples = [
            Sample(prompt.id, prompt.length, float(hit), prompt.depth)
            for prompt, hit in zip(prompts, right, strict=True)
        ]
        hashes = hashlib.sha256("".join(sample.id for sample in samples).encode()).hexdigest()[:16]
        metadata: dict[str, str | int | float] = {
            "seed": self.seed,
            "interval": "Wilson 95 %",
            "prompts": hashes,
            "judged": "greedy, generated tokens",
        }
        return EvalReport("passkey", tuple(self._measured(samples)), tuple(samples), metadata)

    def prompts(self, tokenizer: PreTrainedTokenizerBase) -> Iterator[Prompt]:
        """Yield the prompts; the same ones for the same seed and tokenizer, whatever the model."""
        generator = random.Random(f"passkey {self.seed}")
        haystack = self._haystack(tokenizer)
        for length in self.lengths:
            # Samples outside, depths inside: a batch then holds every depth.
            for _ in range(self.samples):
                for depth in self.depths:
                    yield self._prompt(length, depth, haystack, tokenizer, generator)

    def _prompt(
        self,
        length: int,
        depth: float,
        haystack: list[int],
        tokenizer: PreTrainedTokenizerBase,
        generator: random.Random,
    ) -> Prompt:
        key = "".join(generator.choices("0123456789", k=DIGITS))
        needle = _ids(tokenizer, self.wording.needle.replace("{key}", key))
        question = _ids(tokenizer, self.wording.question)
        answer = _answer(tokenizer, self.wording.question, question, key)
        begin = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
        room = length - len(begin) - len(needle) - len(question) - len(answer)
        if room < 0:
            raise DataError(
                f"passkey: a length of {length} tokens has no room for needle and question", "make it longer"
            )
        if len(haystack) <= room:
            raise DataError(f"passkey: the haystack has {len(haystack)} tokens, {room + 1} are needed", "add text")
        start = generator.randrange(len(haystack) - room)
        text = haystack[start : start + room]
        cut = round(depth * room)
        return Prompt([*begin, *text[:cut], *needle, *text[cut:], *question, *answer], len(answer), length, depth)

    def _haystack(self, tokenizer: PreTrainedTokenizerBase) -> list[int]:
        """Return enough tokens of the documents, in order, to draw any prompt from."""
        wanted = 50 * max(self.lengths)
        ids: list[int] = []
        for document in self.documents:
            ids += _ids(tokenizer, document.text)
            if len(ids) > wanted:
                break
        return ids

    def _measured(self, samples: list[Sample]) -> Iterator[Measurement]:
        for length in self.lengths:
            here = [sample for sample in samples if sample.length == length]
            yield _accuracy(here, length, None)
            for depth in self.depths:
                yield _accuracy([sample for sample in here if sample.depth == depth], length, depth)


def recalled(model: PreTrainedModel, prompts: Sequence[Prompt]) -> list[bool]:
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


def _accuracy(samples: list[Sample], length: int, depth: float | None) -> Measurement:
    hits = int(sum(sample.score for sample in samples))
    return Measurement("accuracy", length, hits / len(samples), *wilson(hits, len(samples)), len(samples), depth)


def _answer(tokenizer: PreTrainedTokenizerBase, question: str, question_ids: list[int], key: str) -> list[int]:
    """Return the key's tokens as they follow the question, where the tokenizer keeps the border between them."""
    together = _ids(tokenizer, question + key)
    if together[: len(question_ids)] == question_ids:
        return together[len(question_ids) :]
    return _ids(tokenizer, key)


def _ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"]
    return ids
