"""Perplexity by context length."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ctxkit.errors import DataError
from ctxkit.spec import Document, EvalReport, Measurement, Sample
from ctxkit_evals.intervals import bootstrap_perplexity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

FORWARD_TOKENS = 4096
"""Tokens of one row whose logits exist at once; the rest of the row is reached through the KV cache, which is exact
where the rotary frequencies are the same at every length; elsewhere the whole row is computed for each block."""
TAIL = 4
"""The tail is the last 1/4 of a window."""


@dataclass(frozen=True)
class Window:
    """The tokens that end at one place of one document."""

    ids: list[int]
    document_id: str
    id: str
    """Document and end, the same for the same window."""


@dataclass(frozen=True)
class Perplexity:
    """Measure exp of the mean negative log-likelihood a token, token-weighted, with a bootstrap interval.

    A window of n tokens predicts n - 1 of them. No begin token is put in front of a window, which usually starts in the
    middle of its document.
    """

    documents: Iterable[Document]
    lengths: Sequence[int]
    windows: int
    batch_size: int
    seed: int
    track: Callable[[Iterable[Any], str, int], Iterator[Any]]

    def __call__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> EvalReport:
        """Return perplexity over whole windows and over their last quarters, for each length."""
        windows = self.chosen(tokenizer)
        batches = [
            (length, windows[start : start + self.batch_size])
            for length in self.lengths
            for start in range(0, len(windows), self.batch_size)
        ]
        losses: dict[int, list[NDArray[np.float64]]] = {length: [] for length in self.lengths}
        for length, batch in self.track(batches, "perplexity", len(batches)):
            losses[length] += list(token_losses(model, [window.ids[-length:] for window in batch]))
        measurements, samples = [], []
        for length in self.lengths:
            rows = np.stack(losses[length])
            tail = rows[:, -(length // TAIL) :]
            measurements += [
                self._measured("perplexity", length, rows, windows),
                self._measured("perplexity_tail", length, tail, windows),
            ]
            samples += [Sample(window.id, length, float(row.mean())) for window, row in zip(windows, rows, strict=True)]
        metadata: dict[str, str | int | float] = {
            "seed": self.seed,
            "interval": "bootstrap 95 % over documents",
            "documents": len({window.document_id for window in windows}),
            "sample_score": "mean nats a token",
        }
        return EvalReport("perplexity", tuple(measurements), tuple(samples), metadata)

    def _measured(self, metric: str, length: int, rows: NDArray[np.float64], windows: Sequence[Window]) -> Measurement:
        documents = [window.document_id for window in windows]
        interval = bootstrap_perplexity(rows.sum(axis=1), rows.shape[1], documents, self.seed)
        return Measurement(metric, length, float(np.exp(rows.mean())), *interval, len(rows))

    def chosen(self, tokenizer: PreTrainedTokenizerBase) -> list[Window]:
        """Return windows of the longest length, none twice: one a document, then another of each, and so on.

        Raises:
            DataError: no document is long enough.
        """
        longest = max(self.lengths)
        found: list[tuple[str, list[int]]] = []
        for document in self.documents:
            encoded = tokenizer(document.text, add_special_tokens=False, split_special_tokens=True, verbose=False)
            if len(encoded["input_ids"]) >= longest:
                found.append((document.id, encoded["input_ids"]))
            if len(found) == self.windows:
                break
        if not found:
            raise DataError(
                f"perplexity: no document has {longest} tokens", "shorten `lengths`, or choose longer texts"
            )
        generator = random.Random(f"perplexity {self.seed}")
        rounds = -(-self.windows // len(found))
        ends = [range(longest, len(ids) + 1) for _, ids in found]
        drawn = [generator.sample(places, min(rounds, len(places))) for places in ends]
        windows = [
            Window(ids[places[turn] - longest : places[turn]], name, f"{name}:{places[turn]}")
            for turn in range(rounds)
            for (name, ids), places in zip(found, drawn, strict=True)
            if turn < len(places)
        ]
        return windows[: self.windows]


def token_losses(model: PreTrainedModel, rows: Sequence[Sequence[int]]) -> NDArray[np.float64]:
    """Return the negative log-likelihood of every token but the first, in nats, shape (rows, tokens - 1)."""
    import torch

    ids = torch.tensor([list(row) for row in rows], device=model.device)
    losses = []
    for start, logits in _logits(model, ids):
        targets = ids[:, start + 1 : start + 1 + logits.shape[1]]
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), reduction="none")
        losses.append(loss.view(len(rows), -1).double().cpu())
    joined: NDArray[np.float64] = torch.cat(losses, dim=1).numpy()
    return joined


def _logits(model: PreTrainedModel, ids: Any) -> Iterator[tuple[int, Any]]:
    """Yield the logits of every token but the last, a block at a time, each with the place where it begins."""
    import torch

    inputs, cache = ids[:, :-1], None
    several = inputs.shape[1] > FORWARD_TOKENS
    for start in range(0, inputs.shape[1], FORWARD_TOKENS):
        stop = min(start + FORWARD_TOKENS, inputs.shape[1])
        if several and _rotates_by_length(model):
            # The keys of a cache would keep the frequencies of the shorter row that they were written for.
            block = torch.arange(start, stop, device=inputs.device)
            yield start, model(input_ids=inputs, logits_to_keep=block, use_cache=False).logits
            continue
        # Without a cache object, transformers would see one block of a longer row as a row of its own.
        outputs = model(input_ids=inputs[:, start:stop], past_key_values=cache, use_cache=several)
        cache = outputs.past_key_values if several else None
        yield start, outputs.logits


def _rotates_by_length(model: PreTrainedModel) -> bool:
    """Return whether the rotary frequencies of a model depend on the length of the row."""
    parameters = getattr(model.config.get_text_config(), "rope_parameters", None) or {}
    parameters = parameters.get("full_attention") or parameters
    return parameters.get("rope_type") in ("dynamic", "longrope")
