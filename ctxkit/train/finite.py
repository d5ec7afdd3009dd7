"""Ends a training whose loss, gradients or weights are not finite, or whose loss explodes, before anything is saved."""

from __future__ import annotations

import functools
import math
import socket
import statistics
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from trl import SFTTrainer

from ctxkit.errors import NotFiniteError
from ctxkit.launch import rank, world_size
from ctxkit.train.checkpoints import SEAL, numbered, step
from ctxkit.train.progress import say
from ctxkit.train.rows import Prepared
from ctxkit.train.whence import named, step_rows

WINDOW = 20
"""Steps over which a loss is smoothed."""
SPIKE, USUAL = 10.0, 100
"""A norm of the gradients is a spike at so many times the median of so many steps before it."""
SKIPS = 20
"""Steps in a row that a loss scaler may skip while it looks for its scale."""
REMEDIES = "usual remedies: a lower learning_rate, more warmup_steps, max_grad_norm, bf16 instead of fp16"


@dataclass
class Explosion:
    """Whether a finite loss is so high that the model is worse than one that knows nothing.

    Guessing among `vocabulary` tokens costs ln(vocabulary) nats. A window that was just extended may begin above that,
    so the bar is `times` the higher of the two: guessing, and what the stage itself began with.
    """

    times: float | None
    """None for no bar."""
    vocabulary: int
    first: list[float] = field(default_factory=list)
    """The losses of the first steps of the stage."""
    last: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=WINDOW))
    """The newest steps with their losses."""

    def add(self, step: int, loss: float) -> None:
        """Add the loss of a step."""
        if len(self.first) < WINDOW:
            self.first.append(loss)
        self.last.append((step, loss))

    def resume(self, history: Iterable[dict[str, Any]]) -> None:
        """Take what a stage began with from the log of the attempt that saved."""
        logged = [entry for entry in history if "loss" in entry]
        early = [float(entry["loss"]) for entry in logged if entry["step"] <= WINDOW] or [
            float(entry["loss"]) for entry in logged[:1]
        ]
        if early:
            self.first = [statistics.fmean(early)] * WINDOW

    @property
    def bar(self) -> float:
        """Nats above which the mean of a window is an explosion."""
        if self.times is None or len(self.first) < WINDOW:
            return math.inf
        return self.times * max(math.log(self.vocabulary), statistics.fmean(self.first))

    @property
    def rising(self) -> bool:
        """Whether the last loss alone is above the bar: no checkpoint before it should be deleted now."""
        return bool(self.last) and self.last[-1][1] > self.bar

    @property
    def since(self) -> int | None:
        """The first step above the bar in a window whose mean is above it; None while nothing explodes."""
        if len(self.last) < WINDOW or statistics.fmean(loss for _, loss in self.last) <= self.bar:
            return None
        return next(step for step, loss in self.last if loss > self.bar)


@dataclass
class Spikes:
    """Counts norms of gradients far above the usual; nothing is done about them."""

    norms: deque[float] = field(default_factory=lambda: deque(maxlen=USUAL))
    steps: list[int] = field(default_factory=list)

    def add(self, step: int, norm: float) -> None:
        """Judge a norm by those before it."""
        usual = statistics.median(self.norms) if len(self.norms) >= WINDOW else math.inf
        if norm > SPIKE * usual:
            self.steps.append(step)
            if len(self.steps) == 1:
                say(f"note: the gradients of step {step} have a norm of {norm:.3g}, and {usual:.3g} is usual")
        self.norms.append(norm)


class FiniteGuard(TrainerCallback):
    """End training when loss, gradients or weights are not finite, or the loss explodes: before the step is taken."""

    def __init__(self, stage: str, times: float | None) -> None:
        """Guard a stage; a loss explodes at so many times what guessing costs, with None never."""
        self._stage, self._times = stage, times
        self._losses: list[torch.Tensor] = []
        self._norms: tuple[list[str], torch.Tensor] | None = None
        self._norm: float | None = None
        self._skipped = 0
        self._named: Callable[[Sequence[int]], str] | None = None
        self._scaled: Callable[[], bool] = bool
        self.explosion = Explosion(times, 2)
        self.spikes = Spikes()

    def watch(self, trainer: SFTTrainer, prepared: Prepared) -> None:
        """Look at the loss of every batch and at the norm of every gradient of a trainer before it clips them."""
        model: Any = trainer.model
        self.explosion = Explosion(self._times, model.config.get_text_config().vocab_size)
        self._named = lambda places: named(prepared, trainer.train_dataset, places)
        self._scaled = lambda: trainer.accelerator.scaler is not None
        step, clip = trainer.training_step, trainer.accelerator.clip_grad_norm_
        # On this one trainer: its class may be a plugin's.
        setattr(trainer, "training_step", self._with_loss(step))  # noqa: B010 - no method may be assigned to
        setattr(trainer.accelerator, "clip_grad_norm_", self._with_norms(clip, model))  # noqa: B010

    def _with_loss(self, call: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        @functools.wraps(call)
        def called(*arguments: Any, **named: Any) -> torch.Tensor:
            loss = call(*arguments, **named)
            self._losses.append(loss.detach())
            return loss

        return called

    def _with_norms(self, call: Callable[..., Any], model: torch.nn.Module) -> Callable[..., Any]:
        @functools.wraps(call)
        def called(*arguments: Any, **named: Any) -> Any:
            # Before: clipping by a norm that is not finite makes all of them so.
            self._norms = _norms(model)
            norm = call(*arguments, **named)
            self._norm = None if norm is None else float(norm)
            return norm

        return called

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Take over what the attempt before logged."""
        self._losses.clear()
        self.explosion.resume(state.log_history)

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Look at the step that is about to be taken, the same in all processes.

        Raises:
            NotFiniteError: its loss or gradients are not finite, or the loss explodes.
        """
        own, norm, number = _sum(self._losses), self._norm, state.global_step + 1
        self._losses, self._norm = [], None
        loss, bad = _together(own, args, refused=self._refused(norm))
        if bad:
            raise self._not_finite(self._found(own, norm, _rows(args, state, kwargs)), state, args)
        self.explosion.add(number, loss)
        if norm is not None and math.isfinite(norm):
            self.spikes.add(number, norm)
        since = self.explosion.since
        if since is not None:
            raise self._exploded(since, state, args)

    def _refused(self, norm: float | None) -> bool:
        """Return whether a norm ends training: a loss scaler tries smaller scales where it is not finite."""
        if norm is None or math.isfinite(norm):
            self._skipped = 0
            return False
        self._skipped += 1
        return not self._scaled() or self._skipped > SKIPS

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Look at the logged loss, for trainers of plugins that take steps in a way of their own.

        Raises:
            NotFiniteError: it is NaN or infinite.
        """
        loss = (logs or {}).get("loss")
        if loss is not None and not math.isfinite(float(loss)):
            said = f"loss is {float(loss)}, found {_at(state, state.global_step)}"
            raise NotFiniteError(said, self._hint(args))

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Look at the weights that are about to be saved, or to become the model of the stage.

        Raises:
            NotFiniteError: one of them is NaN or infinite.
        """
        if not (control.should_save or control.should_training_stop):
            return
        for name, parameter in kwargs["model"].named_parameters():
            if not bool(torch.isfinite(parameter).all()):
                said = f"the weights {name} are not finite {_at(state, state.global_step)}"
                raise NotFiniteError(said, self._hint(args))

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Say how often the norm of the gradients was far above the usual."""
        if len(self.spikes.steps) > 1:
            shown = ", ".join(map(str, self.spikes.steps[:WINDOW]))
            said = f"the norm of the gradients was {SPIKE:g} times the usual at {len(self.spikes.steps)} steps: {shown}"
            say(f"note: stage {self._stage}: {said}")

    def _not_finite(self, mine: tuple[bool, str], state: TrainerState, args: TrainingArguments) -> NotFiniteError:
        """Return the error that names what every process found; called by all of them."""
        found = [mine] * world_size()
        if world_size() > 1:
            torch.distributed.all_gather_object(found, mine)
        lines = [said for own, said in found if own] or [said for _, said in found]
        said = "\n  ".join([f"not finite {_at(state, state.global_step + 1)}:", *lines])
        return NotFiniteError(said, self._hint(args))

    def _found(self, loss: float | None, norm: float | None, places: Sequence[int]) -> tuple[bool, str]:
        """Return whether the loss of this process itself is not finite, and what it found."""
        process = f"process {rank()} on {socket.gethostname()}: " if world_size() > 1 else ""
        own = loss is not None and not math.isfinite(loss)
        what = f"loss is {loss}" if own else f"grad_norm is {norm}"
        first = _first_not_finite(self._norms)
        rows = self._named(places) if self._named and places else ""
        return own, process + "; ".join(filter(None, [what, first, rows]))

    def _exploded(self, since: int, state: TrainerState, args: TrainingArguments) -> NotFiniteError:
        """Return the error that says since when, and how to go on from before."""
        mean, bar = statistics.fmean(loss for _, loss in self.explosion.last), self.explosion.bar
        said = (
            f"the loss explodes {_at(state, state.global_step + 1)}: {mean:.2f} in the mean of {WINDOW} steps, above "
        )
        said += f"{bar:.2f} since step {since}; guessing costs {math.log(self.explosion.vocabulary):.2f}"
        return NotFiniteError(
            said, f"{self._way(args, since)}; explodes_at of the stage sets the bar, null takes it away"
        )

    def _hint(self, args: TrainingArguments) -> str:
        return f"{REMEDIES}\n{self._way(args)}"

    def _way(self, args: TrainingArguments, before: int | None = None) -> str:
        """Return how to go on from the last checkpoint, or the last before a step, with another learning rate."""
        whole = [path for path in numbered(Path(str(args.output_dir))) if (path / SEAL).exists()]
        saved = [path.name for path in whole if before is None or step(path) < before]
        if saved:
            said = f"go on from {saved[-1]} with --resume {self._stage}/{saved[-1]} --on-change reset"
        elif whole:
            said = "no checkpoint is from before: begin again with another --run-dir"
        else:
            said = "nothing of this stage is saved: begin it again with --on-change reset"
        return f"{said} and a lower learning_rate in the recipe"


def _sum(losses: Sequence[torch.Tensor]) -> float | None:
    """Return the loss of a step from those of its batches; None where no batch was seen."""
    return float(torch.stack([loss.float() for loss in losses]).sum()) if losses else None


def _together(loss: float | None, args: TrainingArguments, *, refused: bool) -> tuple[float, bool]:
    """Return the mean loss over all processes, and whether any of them found something that is not finite."""
    own = 0.0 if loss is None else loss
    values = torch.tensor([own, float(refused or not math.isfinite(own))], device=args.device)
    if world_size() > 1:
        torch.distributed.all_reduce(values)
    mean, bad = values.tolist()
    return mean / world_size(), bad > 0


def _norms(model: torch.nn.Module) -> tuple[list[str], torch.Tensor] | None:
    """Return the names of the trained parameters with the norms of their gradients, of a shard those of the shard."""
    found = [(name, parameter.grad) for name, parameter in model.named_parameters() if parameter.grad is not None]
    if not found:
        return None
    gradients = [getattr(gradient, "_local_tensor", gradient) for _, gradient in found]
    device = gradients[0].device
    norms = torch.stack([torch.linalg.vector_norm(each.detach(), dtype=torch.float32).to(device) for each in gradients])
    return [name for name, _ in found], norms


def _first_not_finite(norms: tuple[list[str], torch.Tensor] | None) -> str:
    """Return the name of the first gradient that is not finite, in the order of the model."""
    if norms is None:
        return ""
    names, values = norms
    wrong = (~torch.isfinite(values)).nonzero().flatten().tolist()
    more = f", and {len(wrong) - 1} more" if len(wrong) > 1 else ""
    return f"the gradient of {names[wrong[0]]} is not finite{more}" if wrong else ""


def _rows(args: TrainingArguments, state: TrainerState, kwargs: dict[str, Any]) -> list[int]:
    return step_rows(kwargs.get("train_dataloader"), state.global_step, args.gradient_accumulation_steps)


def _at(state: TrainerState, step: int) -> str:
    epoch = f" (epoch {state.epoch:.2f})" if state.epoch is not None else ""
    return f"at step {step} of {state.max_steps}{epoch}; training ended"
