"""Greedy decoding: at each place the most likely token, whatever a model's own generation settings say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from transformers import PreTrainedModel


def generated(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    most: int,
    enough: Callable[[list[int]], bool],
) -> list[list[int]]:
    """Return what follows each prompt, the prompt left out: at most `most` tokens, fewer where `enough` says so.

    Prompts of different lengths are filled up from the left, masked and with positions from their first token on.
    """
    import torch

    width = max(len(prompt) for prompt in prompts)
    ids = torch.tensor([[0] * (width - len(prompt)) + list(prompt) for prompt in prompts], device=model.device)
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=model.device)
    positions = (mask.cumsum(dim=-1) - 1).clamp(min=0)
    written: list[list[int]] = [[] for _ in prompts]
    cache: Any = None
    for _ in range(most):
        outputs = model(
            input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True,
            logits_to_keep=1,
        )  # fmt: skip
        cache, ids = outputs.past_key_values, outputs.logits[:, -1:].argmax(dim=-1)
        mask = torch.cat([mask, torch.ones_like(ids)], dim=-1)
        positions = positions[:, -1:] + 1
        for row, token in zip(written, ids[:, 0].tolist(), strict=True):
            row.append(token)
        if all(enough(row) for row in written):
            break
    return written
