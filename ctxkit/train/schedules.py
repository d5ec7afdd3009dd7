"""A schedule that takes the place of the one in a checkpoint, from the step of that checkpoint on."""

from __future__ import annotations

import warnings
from typing import Any

from torch.optim.lr_scheduler import LambdaLR
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from trl import SFTTrainer


def reset_schedule(trainer: SFTTrainer, step: int, *, fresh: bool) -> None:
    """Have a trainer load from its checkpoint the moments alone: learning rate, decay and the rest are its arguments'.

    transformers restores them all, so that a changed learning rate has no effect and a changed length jumps.

    Args:
        trainer: Before it trains.
        step: Of the checkpoint; the new schedule is at this step of its own course.
        fresh: Leave the moments too: they are those of another optimizer.
    """
    restore = trainer._load_optimizer_and_scheduler  # noqa: SLF001 - between making them and this there is no event

    def load(checkpoint: str | None) -> None:
        groups = [{key: value for key, value in group.items() if key != "params"} for group in _groups(trainer)]
        scheduler: Any = trainer.lr_scheduler
        course = scheduler.state_dict()
        if not fresh:
            restore(checkpoint)
        for group, own in zip(_groups(trainer), groups, strict=True):
            group.update(own)
        scheduler.load_state_dict(course)
        _advance(scheduler, step)

    trainer._load_optimizer_and_scheduler = load  # type: ignore[method-assign]  # noqa: SLF001


def _groups(trainer: SFTTrainer) -> list[dict[str, Any]]:
    optimizer: Any = trainer.optimizer
    groups: list[dict[str, Any]] = optimizer.param_groups
    return groups


def _advance(scheduler: Any, step: int) -> None:
    """Take a schedule of steps to one; one of measurements, such as a plateau, has nothing measured yet."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")
        for _ in range(step if isinstance(scheduler, LambdaLR) else 0):
            scheduler.step()


class OwnIntervals(TrainerCallback):
    """Log and save as often as the recipe says: transformers goes by what the checkpoint was made with."""

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: Any
    ) -> None:
        """Take the intervals, in steps, from the arguments."""
        state.compute_steps(args, state.max_steps)
