"""The loss of tokens, with the logits of a piece of a row at a time: memory does not grow with vocabulary x length."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from ctxkit.errors import CtxkitError
from ctxkit_evals.greedy import settle
from ctxkit_evals.reach import check_reach, learned_positions

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

LOGITS = 1024
"""Logits that exist at once, of all rows together: 0.5 GB in float32 for a vocabulary of 128,000."""


def token_losses(model: PreTrainedModel, rows: Sequence[Sequence[int]], scored: int) -> NDArray[np.float64]:
    """Return the negative log-likelihood of the last `scored` tokens of rows, in nats, shape (rows, scored).

    All rows have the same length, more than `scored` tokens. The decoder runs once over whole rows without a cache, so
    rotary frequencies that depend on the length are those of this length; the output layer runs a piece at a time, and
    only over what is scored.
    """
    import torch

    settle(model)
    check_reach(learned_positions(model), len(rows[0]))
    called: Any = model
    ids = torch.tensor([list(row) for row in rows], device=model.device)
    end = ids.shape[1] - 1
    step = max(1, LOGITS // len(rows))
    found = []
    with _decoded_once(model):
        for start in range(end - scored, end, step):
            piece = torch.arange(start, min(start + step, end), device=ids.device)
            logits = called(input_ids=ids, logits_to_keep=piece, use_cache=False).logits
            found.append(_cross_entropy(logits, ids[:, piece + 1]))
    return np.concatenate(found, axis=1)


def _cross_entropy(logits: Any, targets: Any) -> NDArray[np.float64]:
    """Return -log softmax of the targets, shape (rows, tokens); in single precision at least."""
    import torch

    exact = logits if logits.dtype == torch.float64 else logits.float()
    loss = torch.nn.functional.cross_entropy(exact.flatten(0, 1), targets.flatten(), reduction="none")
    shaped: NDArray[np.float64] = loss.view(targets.shape).double().cpu().numpy()
    return shaped


@contextmanager
def _decoded_once(model: PreTrainedModel) -> Iterator[None]:
    """Within, every call of a model has the hidden states of the first: calls differ by `logits_to_keep` alone.

    So all that a model does to its logits, such as capping or scaling them, happens as ever.
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


def check_finite(losses: NDArray[np.float64], text: str) -> None:
    """Refuse losses that are not finite.

    Raises:
        CtxkitError: with the text and its first such token.
    """
    wrong = np.flatnonzero(~np.isfinite(losses))
    if len(wrong):
        raise CtxkitError(
            f"the loss of {len(wrong)} of {losses.size} tokens is not finite, first of token {wrong[0] + 1} of {text}",
            "the weights or their precision are at fault: try `dtype: bfloat16` or float32",
        )


def begin_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the begin token, where the tokenizer itself puts one before a text, as that of Llama does."""
    ids: list[int] = tokenizer("a", verbose=False)["input_ids"]
    return ids[:1] if ids[:1] == [tokenizer.bos_token_id] else []


def beyond_window(model: PreTrainedModel, lengths: Sequence[int]) -> dict[str, str | int | float]:
    """Return as metadata which lengths are beyond the model's window; nothing where none is, or nothing is known."""
    window = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    beyond = [str(length) for length in lengths if window and length > window]
    return {"beyond_window": ", ".join(beyond)} if beyond else {}
