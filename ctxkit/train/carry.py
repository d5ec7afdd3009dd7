"""The optimizer's state handed from one stage to the next: moments and step counts, never learning rates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ctxkit.errors import CtxkitError, ExitCode
from ctxkit.train import checkpoints
from ctxkit.train.progress import say

FILE = "optimizer.pt"
MOMENTS = ("exp_avg", "state1", "momentum_buffer")
"""What torch, bitsandbytes and plain SGD call the first moment, which has the shape of its weight."""


class CarryOptimizer(TrainerCallback):
    """Start a stage with the moments that the stage before it ended with."""

    def __init__(self, before: str, checkpoint: Path) -> None:
        """Remember where the state is.

        Args:
            before: The name of the stage before.
            checkpoint: The folder of its last step.
        """
        self._before, self._checkpoint = before, checkpoint

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: Any
    ) -> None:
        """Load the state, unless the stage goes on from a checkpoint of its own, which holds it already.

        Raises:
            CtxkitError: there is no state, it is of another optimizer or of other weights, or it is sharded.
        """
        if state.global_step:
            return
        optimizer = more["optimizer"]
        if args.deepspeed or args.fsdp:
            raise self._refusal("DeepSpeed and FSDP keep it in shards", "leave `optimizer: carry` out")
        saved = self._saved()
        own = optimizer.state_dict()
        if _sizes(saved) != _sizes(own) or not _fits(saved, optimizer):
            raise self._refusal("its optimizer trained other weights", "carry it between stages that train the same")
        # Learning rates and decay are those of this stage.
        optimizer.load_state_dict({"state": saved["state"], "param_groups": own["param_groups"]})
        say(f"the optimizer goes on from stage {self._before}")

    def _saved(self) -> dict[str, Any]:
        reason = checkpoints.broken(self._checkpoint)
        if reason or not (self._checkpoint / FILE).is_file():
            said = f"{self._checkpoint} is not whole or not there ({reason or 'it has no optimizer'})"
            raise self._refusal(said, "write `optimizer: reset`, or train that stage again")
        loaded: dict[str, Any] = torch.load(self._checkpoint / FILE, map_location="cpu", weights_only=True)
        return loaded

    def _refusal(self, reason: str, hint: str) -> CtxkitError:
        said = f"the optimizer of stage {self._before} cannot be carried on: {reason}"
        return CtxkitError(said, hint, exit_code=ExitCode.RECIPE)


def _fits(saved: dict[str, Any], optimizer: torch.optim.Optimizer) -> bool:
    """Return whether every moment has the shape of its weight."""
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    moments = ((weights[number], entry.get(name)) for number, entry in saved["state"].items() for name in MOMENTS)
    return all(moment is None or moment.shape == weight.shape for weight, moment in moments)


def _sizes(state: dict[str, Any]) -> list[int]:
    """Return how many weights each group trains."""
    return [len(group["params"]) for group in state["param_groups"]]
