"""Disk space: asked for before training starts, and recognised when it ran out."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

from transformers import PreTrainedModel
from transformers.trainer_utils import SaveStrategy
from trl import SFTConfig

from ctxkit.errors import DiskError

MARGIN = 1.1
NOTHING_LEFT = 1 << 20
"""Bytes under which a failed write means a full disk; torch's own message does not say so."""
ADAM_STATES = 2


def preflight(model: PreTrainedModel, args: SFTConfig, folder: Path) -> None:
    """Make sure that the checkpoints kept at once, one being written, and the final model fit on the disk.

    Counts weights and two optimizer states of the trained parameters, by their own types.

    Raises:
        DiskError: with the bytes needed and the bytes free.
    """
    weights = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    trained = sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
    checkpoints = 0 if args.save_strategy == SaveStrategy.NO else (args.save_total_limit or 1) + 1
    needed = int(MARGIN * (checkpoints * (weights + ADAM_STATES * trained) + weights))
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DiskError(
            f"{folder} has {free / 1e9:.2f} GB free, and the checkpoints of a stage need about {needed / 1e9:.2f} GB",
            "free some, choose another --run-dir, or lower train.save_total_limit",
        )


def no_space(error: BaseException, folder: Path) -> bool:
    """Return whether an error means that the disk is full."""
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return True
    said = str(error).lower()
    if "no space left" in said:
        return True
    return isinstance(error, RuntimeError | OSError) and shutil.disk_usage(folder).free < NOTHING_LEFT
