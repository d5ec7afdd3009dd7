"""Needles in a haystack: values stated in a text, asked for at its end, judged on what the model writes.

After RULER (Hsieh et al. 2024, section 3.1) and Kamradt's grid of lengths and depths, with a text of the user's.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from ctxkit_evals.accuracy import digest, reported, works
from ctxkit_evals.forks import written
from ctxkit_evals.haystack import decoded, gathered
from ctxkit_evals.hiding import Hiding
from ctxkit_evals.likelihood import beyond_window
from ctxkit_evals.pages import pages
from ctxkit_evals.ruler.scoring import share_found

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from ctxkit.spec import Cells, Document, EvalReport
    from ctxkit.spec.cells import Work
    from ctxkit_evals.forks import Fork, Trunk
    from ctxkit_evals.haystack import Haystack
    from ctxkit_evals.hiding import Wording
    from ctxkit_evals.pages import Amounts, Page

SMALLEST = 1_000_000
LARGEST = 9_999_999


@dataclass(frozen=True)
class Needle:
    """Measure the share of hidden values that a model writes when asked for them, by length, and by depth.

    It is the mean over prompts of RULER's `string_match_all`, from 0 to 1. There are depths where a question asks for
    one value.
    """

    documents: Iterable[Document] | None
    """Around the needles; None for filler."""
    lengths: Sequence[int]
    depths: Sequence[float]
    samples: int
    amounts: Amounts
    wording: Wording
    max_new_tokens: int
    chat: bool
    batch_size: int
    seed: int
    cells: Callable[[str, Mapping[str, Work]], Cells]

    def __call__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> EvalReport:
        """Return the share of values found for each length, and each depth where a question has one."""
        cell = partial(self._cell, model, tokenizer, self.haystack(tokenizer))
        done = self.cells("needle", works(self.lengths, self.samples, self._prompts, cell))
        metadata: dict[str, str | int | float] = {
            "mode": self.amounts.mode,
            "seed": self.seed,
            "judged": "greedy, generated tokens, share of the values in them",
            **beyond_window(model, self.lengths),
        }
        return reported("needle", "recall", done, metadata)

    @property
    def _prompts(self) -> int:
        """Prompts of one sample."""
        return len(self.depths) if self.amounts.on_grid else self.amounts.names // self.amounts.asked

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
        hiding = Hiding(tokenizer, self.wording, haystack, length, self.max_new_tokens, chat=self.chat)
        return [trunk for sample in group for trunk in hiding.trunks(sample, self._pages(length, sample))]

    def _pages(self, length: int, sample: int) -> list[Page]:
        generator = random.Random(f"needle {self.seed} {length} {sample}")
        return pages(self.amounts, self.depths, generator, number)

    def _cell(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, haystack: Haystack, length: int, group: range
    ) -> list[dict[str, Any]]:
        trunks = self.prompts(tokenizer, haystack, length, group)

        def enough(fork: Fork, tokens: list[int]) -> bool:
            return share_found(decoded(tokenizer, tokens), fork.targets) == 1

        found = written(model, trunks, self.batch_size, self.max_new_tokens, enough)
        return [
            _judged(trunk, fork, decoded(tokenizer, tokens), length)
            for trunk, of_trunk in zip(trunks, found, strict=True)
            for fork, tokens in zip(trunk.forks, of_trunk, strict=True)
        ]


def number(generator: random.Random) -> str:
    """Return a value of seven digits, as RULER has them."""
    return str(generator.randint(SMALLEST, LARGEST))


def _judged(trunk: Trunk, fork: Fork, output: str, length: int) -> dict[str, Any]:
    """Return a sample as plain values."""
    return {
        "id": digest(trunk.prompt(fork)),
        "length": length,
        "score": share_found(output, fork.targets),
        "depth": fork.depth,
        "input": fork.input,
        "target": fork.target,
        "output": output,
        "metadata": trunk.metadata,
    }
