"""Where a training is, told to the pulse of its process: by the callbacks of the trainer, and by what it calls."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from trl import SFTTrainer

from ctxkit.launch import world_size
from ctxkit.train.pulse import EVALUATING, SAVING, Pulse
from ctxkit.train.watchdog import EARLIER


class Alive(TrainerCallback):
    """Tells a pulse where the training is; the last callback, so that what others ask for at a step's end is known."""

    def __init__(self, pulse: Pulse, seconds: float | None) -> None:
        """Tell a pulse; `seconds` is what the recipe says of how long nothing may happen."""
        self._pulse, self._seconds = pulse, seconds
        self._began = self._saves = 0.0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Begin to count, and to watch where there are several processes or the recipe says so."""
        default = EARLIER * float(args.ddp_timeout) if world_size() > 1 else None
        self._pulse.limit = self._seconds or default
        self._pulse.begin(state.global_step, state.max_steps)
        self._began = time.monotonic()

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """The rows of a step are there."""
        self._pulse.at("forward")

    def on_substep_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """A part of an accumulated step ended."""
        self._pulse.at("forward")

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """The gradients are there."""
        self._pulse.at("optimizer")

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """A step ended: say what comes next."""
        now, pulse = time.monotonic(), self._pulse
        if pulse.ended:  # the first one may compile
            pulse.longest_step = max(pulse.longest_step, now - self._began)
        self._began = self._saves = now
        pulse.step, pulse.ended = state.global_step, pulse.ended + 1
        if control.should_evaluate:
            pulse.at(EVALUATING)
        else:
            pulse.at(SAVING if control.should_save else "reading rows")

    def on_prediction_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """A part of an evaluation in training ended."""
        self._pulse.at(EVALUATING)

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """It ended."""
        self._saves = time.monotonic()
        self._pulse.at(SAVING if control.should_save else "reading rows")

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """A checkpoint is whole."""
        self._began = time.monotonic()
        self._pulse.longest_save = max(self._pulse.longest_save, self._began - self._saves)
        self._pulse.at("reading rows")

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Nothing is watched any more."""
        self._pulse.training, self._pulse.rows = False, None
        self._pulse.at("after training")


def observe(trainer: SFTTrainer, pulse: Pulse) -> None:
    """Tell a pulse the shape of every batch and when its backward pass begins: no callback is told of them."""
    step, backward = trainer.training_step, trainer.accelerator.backward
    # On this one trainer: its class may be a plugin's.
    setattr(trainer, "training_step", _with_shape(step, pulse))  # noqa: B010 - no method may be assigned to
    setattr(trainer.accelerator, "backward", _before(backward, lambda: pulse.at("backward")))  # noqa: B010


def _with_shape(step: Callable[..., Any], pulse: Pulse) -> Callable[..., Any]:
    @functools.wraps(step)
    def seen(model: Any, inputs: dict[str, Any], *arguments: Any, **named: Any) -> Any:
        ids = inputs.get("input_ids")
        pulse.rows = tuple(ids.shape) if ids is not None and ids.ndim == 2 else None
        return step(model, inputs, *arguments, **named)

    return seen


def _before(call: Callable[..., Any], first: Callable[[], None]) -> Callable[..., Any]:
    @functools.wraps(call)
    def called(*arguments: Any, **named: Any) -> Any:
        first()
        return call(*arguments, **named)

    return called
