"""Train, from the start or from a checkpoint, and say what stood in the way."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from trl import SFTTrainer

from ctxkit.errors import CtxkitError, ExitCode, ResumeError
from ctxkit.train import universal
from ctxkit.train.callbacks import AlreadyTrainedError
from ctxkit.train.checkpoints import numbered
from ctxkit.train.model import refusal
from ctxkit.train.signals import StopSignal


def fit(
    trainer: SFTTrainer, stage: str, checkpoint: Path | None, stop: StopSignal, converted: Path | None = None
) -> None:
    """Train a stage to its end, or to the end of the step in which a signal comes.

    `converted` is loaded in place of the checkpoint that it was made from.

    Raises:
        CtxkitError: a package is missing, a callback refuses, or a whole checkpoint cannot be loaded.
    """
    begun, source = _Begun(trainer if converted else None), converted or checkpoint
    trainer.callback_handler.callbacks.insert(0, begun)
    try:
        with stop.deferred(), contextlib.suppress(AlreadyTrainedError):
            trainer.train(resume_from_checkpoint=str(source) if source else None)
    except ImportError as error:
        # The optimizer is only made here, and may need a package of its own.
        said = f"stage {stage} needs a package that is missing: {refusal(error)}"
        hint = "pip install -e '.[gpu]' brings the optional ones"
        raise CtxkitError(said, hint, exit_code=ExitCode.RECIPE) from error
    except Exception as error:
        if begun.begun or checkpoint is None or isinstance(error, CtxkitError):
            raise
        said = f"{checkpoint} is whole, but cannot be loaded: {refusal(error)}"
        raise ResumeError(said, _way_out(checkpoint)) from error


class _Begun(TrainerCallback):
    """Knows whether everything was loaded and training began."""

    begun = False

    def __init__(self, converted: SFTTrainer | None) -> None:
        """Know the trainer that loads what was converted, where one does."""
        self._converted = converted

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: Any
    ) -> None:
        """Remember it."""
        self.begun = True
        if self._converted is not None:
            universal.loaded(self._converted)


def _way_out(checkpoint: Path) -> str:
    before = [path.name for path in numbered(checkpoint.parent) if path != checkpoint]
    goes_on = f"go on from {before[-1]}" if before else "begin the stage again"
    return f"did the installed versions change? Rename {checkpoint.name} and type the same command to {goes_on}"
