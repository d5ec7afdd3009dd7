"""Key-value retrieval: the value of one key of a long JSON object, all of random UUIDs (Liu et al. 2023, section 3).

Nothing but the very characters of the key tells where its value stands, so this is harder than a pass key in a text.
"""

from __future__ import annotations

import random
import uuid
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from ctxkit.errors import DataError
from ctxkit_evals.accuracy import reported, works
from ctxkit_evals.exact import exactly
from ctxkit_evals.forks import Fork, Trunk
from ctxkit_evals.haystack import continued, encoded
from ctxkit_evals.likelihood import begin_ids, beyond_window

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from ctxkit.spec import Cells, EvalReport
    from ctxkit.spec.cells import Work


@dataclass(frozen=True)
class Pair:
    """A key with its value, and the tokens of what is said and asked of it."""

    key: str
    value: str
    line: list[int]
    question: list[int]
    answer: list[int]


@dataclass(frozen=True)
class KeyValue:
    """Measure the share of values that a model gives back exactly, by length and depth, with Wilson's interval."""

    lengths: Sequence[int]
    depths: Sequence[float]
    samples: int
    preamble: str
    question: str
    batch_size: int
    seed: int
    cells: Callable[[str, Mapping[str, Work]], Cells]

    def __call__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> EvalReport:
        """Return accuracy for each length and depth, and for each length over all depths."""
        # A text is read once for all of its questions.
        done = self.cells("key_value", works(self.lengths, self.samples, 1, partial(self._cell, model, tokenizer)))
        metadata = {"seed": self.seed, "judged": "greedy, generated tokens", **beyond_window(model, self.lengths)}
        return reported("key_value", "accuracy", done, metadata)

    def prompts(self, tokenizer: PreTrainedTokenizerBase, length: int, group: Iterable[int]) -> list[Trunk]:
        """Return the texts of some samples of a length, each with a question for every depth.

        They are the same for the same seed and tokenizer, whatever the model.

        Raises:
            DataError: there is room for fewer pairs than depths.
        """
        return [self._prompt(tokenizer, length, sample) for sample in group]

    def _cell(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, length: int, group: range
    ) -> list[dict[str, Any]]:
        return exactly(model, tokenizer, self.prompts(tokenizer, length, group), length, self.batch_size)

    def _prompt(self, tokenizer: PreTrainedTokenizerBase, length: int, sample: int) -> Trunk:
        head = [*begin_ids(tokenizer), *encoded(tokenizer, f"{self.preamble}{{")]
        pairs = self._pairs(tokenizer, length - len(head), random.Random(f"key_value {self.seed} {length} {sample}"))
        if len(pairs) < len(self.depths):
            raise DataError(
                f"a length of {length} tokens has room for {len(pairs)} pairs, fewer than there are depths",
                "make it longer, or state fewer depths",
            )
        last = encoded(tokenizer, f'"{pairs[-1].key}": "{pairs[-1].value}"}}')
        ids = [*head, *(token for pair in pairs[:-1] for token in pair.line), *last]
        return Trunk(ids, tuple(self._fork(len(ids), pairs, depth) for depth in self.depths), sample)

    def _pairs(self, tokenizer: PreTrainedTokenizerBase, room: int, generator: random.Random) -> list[Pair]:
        """Return as many pairs as there is room for beside the longest question with its answer."""
        found: list[Pair] = []
        used = longest = 0
        while True:
            pair = self._pair(tokenizer, generator)
            used += len(pair.line)
            longest = max(longest, len(pair.question) + len(pair.answer))
            if used + longest > room:
                return found
            found.append(pair)

    def _pair(self, tokenizer: PreTrainedTokenizerBase, generator: random.Random) -> Pair:
        key, value = (str(uuid.UUID(int=generator.getrandbits(128), version=4)) for _ in range(2))
        text = self.question.replace("{key}", key)
        question = encoded(tokenizer, text)
        line = encoded(tokenizer, f'"{key}": "{value}",\n ')
        return Pair(key, value, line, question, continued(tokenizer, text, question, value))

    def _fork(self, at: int, pairs: Sequence[Pair], depth: float) -> Fork:
        pair = pairs[round(depth * (len(pairs) - 1))]
        asked = self.question.replace("{key}", pair.key).strip()
        return Fork(at, pair.question, pair.answer, asked, pair.value, (pair.value,), depth)
