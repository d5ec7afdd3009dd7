"""Batches of rows whose positions skip, and of packed rows that processes share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from ctxkit.train.rows import MASKED

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


class SharedDocuments:
    """One packed row a batch, padded to the length that processes share, its documents told apart by positions alone.

    TRL's batches of packed rows hold lengths of documents, which DeepSpeed's adapter cannot share out. From positions
    that start anew, which the processes of a row put together again, flash attention finds the same documents
    (`_is_packed_sequence` of transformers).
    """

    def __init__(self, pad_token_id: int, length: int) -> None:
        """Take the id of padding, and the tokens of every batch."""
        self._pad, self._length = pad_token_id, length

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        """Return `input_ids`, `labels` and `position_ids`, shape (1, tokens); the padding is a document of its own.

        The first token of a document has no label, as in TRL's batches: nothing before it foretells it.

        Raises:
            ValueError: there are several rows, which flash attention would not tell apart.
        """
        (row,) = examples
        ids, labels = (torch.as_tensor(row[name]) for name in ("input_ids", "labels"))
        rest = self._length - len(ids)
        documents = [int(tokens) for tokens in row["seq_lengths"]] + ([rest] if rest else [])
        positions = torch.cat([torch.arange(tokens) for tokens in documents])
        filled = functional.pad(labels, (0, rest), value=MASKED).masked_fill(positions == 0, MASKED)
        batch = {
            "input_ids": functional.pad(ids, (0, rest), value=self._pad),
            "labels": filled,
            "position_ids": positions,
        }
        return {name: values[None] for name, values in batch.items()}
