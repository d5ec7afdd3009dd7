"""Rows that processes share by sequence parallelism: batches that can be skipped, and losses that weigh by tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import torch
from torch import distributed
from torch.utils.data import DataLoader, IterableDataset
from trl import SFTTrainer

from ctxkit.train.rows import MASKED

WEIGHT = "ctxkit_weight"
"""The key of a batch that holds its part of the tokens of a step, 1 where all batches have as many."""


def share_rows(trainer: SFTTrainer, per_row: int) -> None:
    """Have a trainer whose rows are shared by `per_row` processes skip and weigh batches as it does whole ones."""
    accelerator = trainer.accelerator
    share = accelerator.deepspeed_ulysses_dl_adapter

    def adapter(rows: DataLoader[Any], model: Any) -> SharedRows:
        return SharedRows(rows, lambda: share(rows, model), per_row, lambda: int(trainer.state.epoch or 0))

    accelerator.deepspeed_ulysses_dl_adapter = adapter
    _weigh(cast("Any", trainer))


def _weigh(trainer: Any) -> None:
    """Multiply the loss of each batch by its part of the tokens of the step.

    The loss that transformers puts together from the parts of a row (`deepspeed_sp_compute_loss`) is a mean over the
    tokens of its batch, and the mean of those is no mean over the tokens of the step.
    """
    gather, compute = trainer.get_batch_samples, trainer.compute_loss

    def get_batch_samples(*arguments: Any) -> Any:
        batches, items = gather(*arguments)
        for batch, weight in zip(batches, _weights(batches, arguments[-1]), strict=True):
            batch[WEIGHT] = weight
        return batches, items

    def compute_loss(model: Any, inputs: dict[str, Any], **more: Any) -> Any:
        weight = inputs.pop(WEIGHT, 1.0)
        found = compute(model, inputs, **more)
        return (found[0] * weight, *found[1:]) if more.get("return_outputs") else found * weight

    trainer.get_batch_samples, trainer.compute_loss = get_batch_samples, compute_loss


def _weights(batches: Sequence[dict[str, Any]], device: Any) -> list[float]:
    """Return the tokens of each batch of a step, over the mean of all batches of the step in all processes."""
    from deepspeed.utils import groups

    if not batches:
        return []
    tokens = torch.stack([(batch["shift_labels"] != MASKED).sum() for batch in batches]).to(device)
    distributed.all_reduce(tokens, group=groups._get_sequence_parallel_group())  # noqa: SLF001 - as accelerate does
    total = tokens.sum()
    distributed.all_reduce(total)  # in which each group of processes counts its own as often as it has members
    alike = len(batches) * distributed.get_world_size()
    return (tokens * alike / total.clamp(min=1)).tolist()


class SharedRows(IterableDataset[dict[str, Any]]):
    """Batches of which each process of a group gets its part of every row, as DeepSpeed's adapter makes them.

    The adapter alone cannot skip what an interrupted stage has seen (`skip_first_batches` of accelerate looks for a
    dataset), and never hears of epochs. To accelerate this is a data set whose items are batches.
    """

    batch_size = prefetch_factor = None
    drop_last = False

    def __init__(
        self, rows: DataLoader[Any], share: Callable[[], Iterator[Any]], per_row: int, epoch: Callable[[], int]
    ) -> None:
        """Take the batches of whole rows, what makes the adapter around them, its group's size, and the epoch."""
        self._rows, self._share, self._per_row, self._epoch = rows, share, per_row, epoch

    @property
    def dataset(self) -> SharedRows:
        """Itself: what accelerate skips in."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Take the order of an epoch."""
        parts: list[Any] = [self._rows, getattr(getattr(self._rows, "batch_sampler", None), "batch_sampler", None)]
        for part in parts:
            if hasattr(part, "set_epoch"):
                part.set_epoch(epoch)

    def __len__(self) -> int:
        """Batches of an epoch."""
        return len(self._rows) * self._per_row

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield this process's part of each batch of the epoch."""
        self.set_epoch(self._epoch())
        return self._share()
