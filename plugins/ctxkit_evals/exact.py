"""Prompts that count if greedy decoding writes exactly the answer.

Because the answer's tokens are known, one forward pass over prompt and answer tells this for all of them at once:
greedy decoding writes the answer if and only if each of its tokens is the most likely one after the prompt and the
tokens before it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ctxkit_evals.accuracy import digest
from ctxkit_evals.forks import guessed
from ctxkit_evals.haystack import decoded

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from ctxkit_evals.forks import Trunk


def exactly(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    trunks: Sequence[Trunk],
    length: int,
    batch_size: int,
) -> list[dict[str, Any]]:
    """Return the fields of a sample for each prompt; its score is 1 if greedy decoding writes exactly the answer."""
    guesses = guessed(model, trunks, batch_size)
    return [
        {
            "id": digest([*trunk.prompt(fork), *fork.answer]),
            "length": length,
            "score": float(guess == fork.answer),
            "depth": fork.depth,
            "input": fork.input,
            "target": fork.target,
            "output": decoded(tokenizer, begun(guess, fork.answer)),
            "metadata": trunk.metadata,
        }
        for trunk, of_trunk in zip(trunks, guesses, strict=True)
        for fork, guess in zip(trunk.forks, of_trunk, strict=True)
    ]


def begun(guess: Sequence[int], answer: Sequence[int]) -> Iterator[int]:
    """Yield what greedy decoding writes, up to its first wrong token; beyond that nothing is known."""
    for token, right in zip(guess, answer, strict=True):
        yield token
        if token != right:
            return
