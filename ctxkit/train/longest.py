"""The longest rows first, and then as if nothing had been: what does not fit is known before the first step is paid."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import NDArray
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from trl import SFTTrainer

from ctxkit.train.progress import say
from ctxkit.train.pulse import Pulse
from ctxkit.train.rope import rotary_modules
from ctxkit.train.rows import Prepared

ADAM = ("adamw_torch", "adamw_torch_fused")
"""Optimizers that hold two numbers beside each trained one, from the first step on."""
COUNTED = ("_metrics", "_total_train_tokens")
"""What TRL counts in a forward pass."""


class TryLongest(TrainerCallback):
    """Take the longest batch forward and backward before the first step, and no step with it.

    Room for the state of the optimizer, which only the first step would make, is held meanwhile. Behind it, random
    numbers, gradients, buffers and counts are as before, so that training is the same to the last bit.
    """

    def __init__(self, pulse: Pulse) -> None:
        """Tell a pulse what is tried."""
        self._pulse = pulse
        self._trainer: SFTTrainer | None = None
        self._lengths: NDArray[np.int64] = np.empty(0, dtype=np.int64)

    def watch(self, trainer: SFTTrainer, prepared: Prepared) -> None:
        """Try with a trainer and the rows that it was given."""
        self._trainer, self._lengths = trainer, _lengths(prepared, trainer.train_dataset)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Try; a lack of memory ends the run here."""
        if self._trainer is None:
            return
        if args.deepspeed:
            say("note: try_longest does nothing with DeepSpeed, which takes the step within the backward pass")
            return
        rows = np.argsort(-self._lengths, kind="stable")[: args.train_batch_size].tolist()
        self._pulse.at("trying the longest rows")
        with untouched(self._trainer), _room(self._trainer):
            _forward_and_backward(self._trainer, rows)
        say(f"the longest batch fits: {len(rows)} rows of up to {int(self._lengths[rows[0]]):,} tokens")


def _forward_and_backward(trainer: Any, rows: list[int]) -> None:
    dataset = trainer.train_dataset
    batch = trainer.data_collator([dataset[row] for row in rows])
    batches, items = trainer.get_batch_samples(iter([batch]), 1, trainer.args.device)
    trainer.current_gradient_accumulation_steps = trainer.args.gradient_accumulation_steps
    trainer.training_step(trainer.model_wrapped, batches[0], items)


@contextmanager
def untouched(trainer: SFTTrainer) -> Iterator[None]:
    """Put back random numbers, gradients, buffers of the model and counts of the trainer behind a block."""
    counted = {name: copy.deepcopy(vars(trainer)[name]) for name in COUNTED if name in vars(trainer)}
    with _same_random_numbers(), _same_buffers(trainer.model):
        yield
    trainer.model_wrapped.zero_grad()
    vars(trainer).update(counted)


@contextmanager
def _same_random_numbers() -> Iterator[None]:
    here, arrays, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002 - what is used
    devices = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    yield
    random.setstate(here)
    np.random.set_state(arrays)  # noqa: NPY002 - the generator that others draw from
    torch.set_rng_state(cpu)
    if devices:
        torch.cuda.set_rng_state_all(devices)


@contextmanager
def _same_buffers(model: Any) -> Iterator[None]:
    """Put back every buffer, and what a rotary module remembers of the longest row that it saw."""
    buffers = [(module, name, buffer, buffer.clone()) for module, name, buffer in _buffers(model)]
    seen = [
        (module, {key: value for key, value in vars(module).items() if isinstance(value, int | float)})
        for _, module in rotary_modules(model)
    ]
    yield
    for module, name, buffer, before in buffers:
        buffer.copy_(before)
        setattr(module, name, buffer)
    for module, values in seen:
        vars(module).update(values)


def _buffers(model: Any) -> Iterator[tuple[torch.nn.Module, str, torch.Tensor]]:
    for module in model.modules():
        yield from ((module, name, buffer) for name, buffer in module.named_buffers(recurse=False))


@contextmanager
def _room(trainer: SFTTrainer) -> Iterator[None]:
    """Hold what the state of the optimizer will take, where it is known and not there yet."""
    optimizer: Any = trainer.optimizer
    new = str(trainer.args.optim).rpartition(".")[2].lower() in ADAM and not optimizer.state
    trained = [
        parameter for group in optimizer.param_groups for parameter in group["params"] if parameter.requires_grad
    ]
    held = [torch.empty_like(parameter) for parameter in trained for _ in range(2)] if new else []
    yield
    del held


def _lengths(prepared: Prepared, dataset: Dataset | Any) -> NDArray[np.int64]:
    """Return the tokens of each row as it is served; a curriculum serves rows at places of its own."""
    lengths = np.asarray(prepared.train.data.column("length").to_numpy(), dtype=np.int64)
    return lengths[dataset.data.column("row").to_numpy()] if "row" in dataset.column_names else lengths
