"""What each phase of a curriculum came to: one line of the metrics for every pass over its rows."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import IntervalStrategy, SaveStrategy

from ctxkit.train.callbacks import read_lines, seconds
from ctxkit.train.curriculum import Schedule, Segment

LARGEST = 700.0
"""Nats whose exponential is still a number."""


class PhaseMetrics(TrainerCallback):
    """Log at the end of every segment, evaluate and save there if that is asked of epochs, and sum it up in a line.

    What is summed up is read back from the metrics, so that a run that was killed writes the lines that one without
    interruption does.
    """

    def __init__(self, path: Path, stage: str, schedule: Schedule) -> None:
        """Write for one stage."""
        self._path, self._stage, self._schedule = path, stage, schedule
        self._segments = {segment.last: segment for segment in schedule.segments()}
        self._written: set[int] = set()

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Write the line of a segment whose end was saved, where a kill came before it was written."""
        self._written = {line["step"] for line in self._lines() if "curriculum" in line}
        self._write(state)

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Write the line of a segment that has ended, its evaluation included."""
        self._write(state)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Ask for what belongs to the end of a segment."""
        if state.global_step not in self._segments:
            return
        control.should_log |= args.logging_strategy != IntervalStrategy.NO
        control.should_evaluate |= args.eval_strategy == IntervalStrategy.EPOCH
        control.should_save |= args.save_strategy == SaveStrategy.EPOCH

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Do not evaluate and save again: the one epoch of the trainer ends where the last segment does."""
        if state.global_step in self._segments:
            control.should_evaluate &= args.eval_strategy != IntervalStrategy.EPOCH
            control.should_save &= args.save_strategy != SaveStrategy.EPOCH

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Write the line of the last segment."""
        self._write(state)

    def _lines(self) -> list[dict[str, Any]]:
        return [line for line in read_lines(self._path) if line["stage"] == self._stage]

    def _write(self, state: TrainerState) -> None:
        """Append the lines of the segments that have ended and have none."""
        ended = [step for step in self._segments if step <= state.global_step and step not in self._written]
        if not ended or not state.is_world_process_zero:
            return
        logs = self._lines()
        with self._path.open("a", encoding="utf-8") as file:
            for step in ended:
                segment = self._segments[step]
                said = {**self._schedule.described(segment), **measured(logs, segment)}
                spent = seconds(self._path, self._stage)
                line = {"stage": self._stage, "step": step, "seconds": spent, "curriculum": said}
                file.write(json.dumps(line) + "\n")
        self._written.update(ended)


def summaries(path: Path, stage: str) -> list[dict[str, Any]]:
    """Return what the metrics say of each phase of a stage, in order."""
    return [line["curriculum"] for line in read_lines(path) if line["stage"] == stage and "curriculum" in line]


def measured(logs: list[dict[str, Any]], segment: Segment) -> dict[str, Any]:
    """Return what the logs of a stage say of a segment: loss over its steps, validation loss at its end, gradients."""
    own = [line for line in logs if segment.first <= line["step"] <= segment.last]
    loss = _mean_loss(own, segment.first - 1)
    held_out = [float(line["eval_loss"]) for line in own if "eval_loss" in line]
    norms = [float(line["grad_norm"]) for line in own if "grad_norm" in line]
    gradients = {"min": min(norms), "mean": sum(norms) / len(norms), "max": max(norms)} if norms else None
    return {
        "train_loss": loss,
        "perplexity": _perplexity(loss),
        "eval_loss": held_out[-1] if held_out else None,
        "eval_perplexity": _perplexity(held_out[-1]) if held_out else None,
        "grad_norm": gradients,
        "logged_steps": len(norms),
    }


def _mean_loss(logs: list[dict[str, Any]], before: int) -> float | None:
    """Return the mean over all steps of logs that each hold the mean since the log before."""
    total, steps = 0.0, 0
    for line in logs:
        if "loss" in line:
            total += float(line["loss"]) * (line["step"] - before)
            steps += line["step"] - before
            before = line["step"]
    return total / steps if steps else None


def _perplexity(loss: float | None) -> float | None:
    return None if loss is None else math.exp(min(loss, LARGEST))
