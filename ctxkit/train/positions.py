"""Batches of rows whose positions skip."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

Collator = Callable[[list[dict[str, Any]]], dict[str, Any]]


class WithPositions:
    """Add `position_ids` to what TRL's collator makes of rows that have them.

    The batch keeps its attention mask: without one transformers takes a jump for the border between packed documents
    and lets nothing attend across it (`find_packed_sequence_indices`).
    """

    def __init__(self, collator: Collator) -> None:
        """Wrap a collator that pads on the right."""
        self._collator = collator

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        """Return the batch with `position_ids`, shape (rows, tokens); 0 where a row is padded."""
        batch = self._collator(examples)
        positions = torch.zeros_like(batch["input_ids"])
        for row, example in enumerate(examples):
            own = torch.as_tensor(example["position_ids"])
            positions[row, : len(own)] = own
        return {**batch, "position_ids": positions}
