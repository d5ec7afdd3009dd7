"""Passkey retrieval: a key hidden in a text, asked for at its end (Mohtashami and Jaggi 2023).

The answer is judged on the model's own tokens only: a prompt counts if greedy decoding gives exactly the key. Because
the key's tokens are known, one forward pass over prompt and key tells this for all of them at once: greedy decoding
yields the key if and only if each of its tokens is the most likely one after the prompt and the tokens before it.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from ctxkit.spec import EvalReport
from ctxkit_evals.accuracy import INTERVAL, digest, groups, measured, prompts_hash, sampled
from ctxkit_evals.forks import guessed
from ctxkit_evals.haystack import gathered
from ctxkit_evals.hiding import Hiding
from ctxkit_evals.likelihood import beyond_window
from ctxkit_evals.pages import Amounts, pages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from ctxkit.spec import Cells, Document
    from ctxkit_evals.forks import Fork, Trunk
    from ctxkit_evals.haystack import Haystack
    from ctxkit_evals.hiding import Wording
    from ctxkit_evals.pages import Page

DIGITS = 5


@dataclass(frozen=True)
class Passkey:
    """Measure the share of keys that a model recalls, by length and depth, with Wilson's interval."""

    documents: Iterable[Document] | None
    """Around the key; None for filler."""
    lengths: Sequence[int]
    depths: Sequence[float]
    samples: int
    keys: int
    """In one prompt."""
    wording: Wording
    batch_size: int
    seed: int
    cells: Callable[[str, Mapping[str, Callable[[], Any]]], Cells]

    def __call__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> EvalReport:
        """Return accuracy for each length and depth, and for each length over all depths."""
        haystack = self.haystack(tokenizer)
        cells = {
            f"{length} tokens, samples {group[0] + 1} to {group[-1] + 1}": partial(
                self._cell, model, tokenizer, haystack, length, group
            )
            for length in self.lengths
            for group in groups(self.samples, length * len(self.depths))
        }
        done = self.cells("passkey", cells)
        samples = sampled(done.found)
        metadata: dict[str, str | int | float] = {
            "seed": self.seed,
            "interval": INTERVAL,
            "prompts": prompts_hash(samples),
            "judged": "greedy, generated tokens",
            **beyond_window(model, self.lengths),
        }
        return EvalReport("passkey", tuple(measured("accuracy", samples)), tuple(samples), metadata, done.failed)

    def haystack(self, tokenizer: PreTrainedTokenizerBase) -> Haystack:
        """Return the text for all prompts."""
        return gathered(self.documents, tokenizer, max(self.lengths), self.seed)

    def prompts(
        self, tokenizer: PreTrainedTokenizerBase, haystack: Haystack, length: int, group: Iterable[int]
    ) -> list[Trunk]:
        """Return the prompts of some samples of a length; the same for the same seed and tokenizer, whatever the model.

        Raises:
            DataError: they cannot be made, with the reason.
        """
        hiding = Hiding(tokenizer, self.wording, haystack, length)
        return [trunk for sample in group for trunk in hiding.trunks(sample, self._pages(length, sample))]

    def _pages(self, length: int, sample: int) -> list[Page]:
        generator = random.Random(f"passkey {self.seed} {length} {sample}")
        return pages(Amounts(self.keys), self.depths, generator, key)

    def _cell(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, haystack: Haystack, length: int, group: range
    ) -> list[dict[str, Any]]:
        trunks = self.prompts(tokenizer, haystack, length, group)
        guesses = guessed(model, trunks, self.batch_size)
        return [
            _judged(tokenizer, trunk, fork, guess, length)
            for trunk, of_trunk in zip(trunks, guesses, strict=True)
            for fork, guess in zip(trunk.forks, of_trunk, strict=True)
        ]


def key(generator: random.Random) -> str:
    """Return the digits of a key."""
    return "".join(generator.choices("0123456789", k=DIGITS))


def _judged(
    tokenizer: PreTrainedTokenizerBase, trunk: Trunk, fork: Fork, guess: list[int], length: int
) -> dict[str, Any]:
    """Return a sample as plain values: right only if every token of the answer is the most likely one."""
    return {
        "id": digest([*trunk.prompt(fork), *fork.answer]),
        "length": length,
        "score": float(guess == fork.answer),
        "depth": fork.depth,
        "input": fork.input,
        "target": fork.target,
        "output": tokenizer.decode(list(_begun(guess, fork.answer))),
        "metadata": {"sample": trunk.sample},
    }


def _begun(guess: Sequence[int], answer: Sequence[int]) -> Iterator[int]:
    """Yield what greedy decoding writes: beyond its first wrong token nothing is known."""
    for token, right in zip(guess, answer, strict=True):
        yield token
        if token != right:
            return
