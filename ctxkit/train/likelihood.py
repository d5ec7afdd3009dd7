"""How likely a model finds documents, with the logits of a piece of a document at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

PIECE = 1024
"""Tokens whose logits exist at once: 0.5 GB in float32 for a vocabulary of 128,000."""


def perplexity(model: PreTrainedModel, documents: Sequence[NDArray[np.int32]], length: int) -> float:
    """Return exp of the mean negative log-likelihood of a token, over documents cut to `length` tokens.

    Each is computed whole, as one row without a cache, so that frequencies that depend on the length are those of this
    length. The first token of a document is not predicted. Infinite where the mean is not finite, or too large for exp.
    """
    with torch.no_grad():
        total = sum(_loss(model, document[:length]) for document in documents)
    mean = total / sum(len(document[:length]) - 1 for document in documents)
    try:
        return math.exp(mean) if math.isfinite(mean) else math.inf
    except OverflowError:
        return math.inf


def _loss(model: PreTrainedModel, document: NDArray[np.int32]) -> float:
    """Return the negative log-likelihood of the tokens of a document after the first, in nats."""
    called: Any = model
    ids = torch.from_numpy(document.astype(np.int64))[None].to(model.device)
    total = 0.0
    with _decoded_once(model):
        for start in range(0, ids.shape[1] - 1, PIECE):
            piece = torch.arange(start, min(start + PIECE, ids.shape[1] - 1), device=ids.device)
            logits = called(input_ids=ids, logits_to_keep=piece, use_cache=False).logits[0].float()
            total += float(torch.nn.functional.cross_entropy(logits, ids[0, piece + 1], reduction="sum").double())
    return total


@contextmanager
def _decoded_once(model: PreTrainedModel) -> Iterator[None]:
    """Within, every call of a model has the hidden states of the first: calls differ by `logits_to_keep` alone.

    So all that a model does to its logits, such as capping them, happens as ever.
    """
    decoder: Any = model.get_decoder()
    forward = decoder.forward
    own = vars(decoder).get("forward")
    kept: list[Any] = []

    def once(*args: Any, **kwargs: Any) -> Any:
        if not kept:
            kept.append(forward(*args, **kwargs))
        return kept[0]

    decoder.forward = once
    try:
        yield
    finally:
        if own is None:
            del decoder.forward
        else:
            decoder.forward = own
