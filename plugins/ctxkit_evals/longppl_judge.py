"""The model that says which tokens of a text need far context."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from ctxkit.errors import CtxkitError
from ctxkit_evals.likelihood import begin_ids, check_finite, token_losses

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from ctxkit_evals.perplexity_texts import Stretch


@dataclass(frozen=True)
class KeyRule:
    """A token is key if the short context costs more than `alpha`, and it is likely enough with the whole."""

    short: int
    """Tokens of the short context, at least."""
    stride: int
    """Tokens that share a short context, so that the last of them has `short + stride - 1`."""
    alpha: float
    """Nats by which the short context must be worse."""
    beta: float
    """Nats that the loss with the whole context must be below; the reference has -beta, a log-probability."""

    def cost(self, length: int) -> int:
        """Return the tokens that are computed for a text of `length` tokens."""
        return 2 * length + (length - self.short) * (self.short + self.stride) // self.stride

    def keys(self, model: PreTrainedModel, row: Sequence[int], begin: int, whole: NDArray[np.float64]) -> Any:
        """Return the places of the key tokens of a row, in order.

        `begin` of its tokens, 0 or 1, are a begin token, which stands before the short contexts too; `whole` holds the
        losses of all tokens but the first.
        """
        short = self._short_losses(model, row, begin)
        check_finite(short, "a text with the short context")
        full = whole[self.short - 1 :]
        return self.short + np.flatnonzero((short - full > self.alpha) & (full < self.beta))

    def _short_losses(self, model: PreTrainedModel, row: Sequence[int], begin: int) -> NDArray[np.float64]:
        """Return the losses of the tokens from the place `short` on, each with its short context."""
        starts = range(0, len(row) - self.short, self.stride)
        rows = [[*row[:begin], *row[start + begin : start + self.short + self.stride]] for start in starts]
        found = [np.empty(0)]
        for length, group in groupby(rows, len):
            same, step = list(group), max(1, len(row) // length)
            batches = (same[at : at + step] for at in range(0, len(same), step))
            found += [token_losses(model, batch, length - self.short).ravel() for batch in batches]
        return np.concatenate(found)


@dataclass(frozen=True)
class Judge:
    """Finds the key tokens of texts, with the measured model or with another one, whatever its tokenizer."""

    rule: KeyRule
    name: str | None
    model: PreTrainedModel
    """The measured one."""
    tokenizer: PreTrainedTokenizerBase

    def keys(self, text: Stretch, begin: int, losses: NDArray[np.float64]) -> Any:
        """Return the places of the key tokens of a text that stands after `begin` tokens of the measured model.

        `losses` are those of the measured model.
        """
        if self.name is None:
            row = [*begin_ids(self.tokenizer), *text.ids]
            return self.rule.keys(self.model, row, begin, losses)
        own = begin_ids(self._reader)
        if self._reader.get_vocab() == self.tokenizer.get_vocab():
            return self._judged([*own, *text.ids], len(own)) - len(own) + begin
        ids, offsets = self._read_again(text)
        places = self._judged([*own, *ids], len(own)) - len(own)
        return begin + covered(text.offsets, offsets[places])

    def _judged(self, row: Sequence[int], begin: int) -> Any:
        whole = token_losses(self._evaluator, [row], len(row) - 1)[0]
        check_finite(whole, f"a text for the evaluator {self.name}")
        return self.rule.keys(self._evaluator, row, begin, whole)

    def _read_again(self, text: Stretch) -> tuple[list[int], NDArray[np.int64]]:
        """Return the tokens of a text as the evaluator has them, and where they stand in the document."""
        if text.offsets is None:
            raise CtxkitError("longppl: " + SLOW.format(name=self.name), SLOW_HINT)
        first, end = int(text.offsets[0, 0]), int(text.offsets[-1, 1])
        found = self._reader(
            text.text[first:end],
            add_special_tokens=False,
            split_special_tokens=True,
            verbose=False,
            return_offsets_mapping=True,
        )
        return found["input_ids"], first + np.array(found["offset_mapping"], dtype=np.int64).reshape(-1, 2)

    @cached_property
    def _reader(self) -> PreTrainedTokenizerBase:
        return evaluator_tokenizer(str(self.name), self.tokenizer)

    @cached_property
    def _evaluator(self) -> PreTrainedModel:
        from transformers import AutoModelForCausalLM

        model: Any = _loaded(AutoModelForCausalLM, str(self.name), dtype=self.model.dtype)
        model.to(self.model.device)
        model.eval()
        return model  # type: ignore[no-any-return]


SLOW = "the evaluator {name} has another tokenizer, and one of the two is slow, which cannot say where tokens stand"
SLOW_HINT = "choose an evaluator with the same tokenizer, or a fast one"


def evaluator_tokenizer(name: str, tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """Return the tokenizer of an evaluator.

    Raises:
        CtxkitError: it cannot be loaded, or its tokens cannot be set beside those of `tokenizer`.
    """
    from transformers import AutoTokenizer

    found: PreTrainedTokenizerBase = _loaded(AutoTokenizer, name)
    if found.get_vocab() != tokenizer.get_vocab() and not (found.is_fast and tokenizer.is_fast):
        raise CtxkitError("longppl: " + SLOW.format(name=name), SLOW_HINT)
    return found


def check_evaluator(name: str, tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse an evaluator that is not there.

    Raises:
        CtxkitError: its config or its tokenizer cannot be loaded or used.
    """
    from transformers import AutoConfig

    _loaded(AutoConfig, name)
    evaluator_tokenizer(name, tokenizer)


def _loaded(kind: Any, name: str, **options: Any) -> Any:
    try:
        return kind.from_pretrained(name, trust_remote_code=False, **options)
    except (OSError, ValueError, ImportError) as error:
        said = str(error).strip().splitlines()[0]
        raise CtxkitError(f"longppl: the evaluator {name} cannot be loaded: {said}", "state another, or null") from None


def covered(tokens: Any, spans: Any) -> Any:
    """Return the places of the tokens all of whose characters lie in spans; both as first and end, shape (n, 2).

    Spans that touch count as one, so a token may reach over several.
    """
    if not len(spans):
        return np.empty(0, dtype=np.int64)
    marks = np.zeros(max(int(tokens.max()), int(spans.max())) + 1, dtype=np.int64)
    for first, end in spans:
        marks[first:end] = 1
    before = np.concatenate([[0], np.cumsum(marks)])
    lengths = tokens[:, 1] - tokens[:, 0]
    return np.flatnonzero((lengths > 0) & (before[tokens[:, 1]] - before[tokens[:, 0]] == lengths))
