"""Disk space: asked for before training starts, and recognised when it ran out."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from transformers import PreTrainedModel
from transformers.trainer_utils import SaveStrategy
from trl import SFTConfig

from ctxkit.errors import DiskError
from ctxkit.train.blame import FULL_DISK
from ctxkit.train.checkpoints import numbered

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
    checkpoints = _kept(args) + 1 if args.save_strategy != SaveStrategy.NO else 0
    needed = int(MARGIN * (checkpoints * (weights + ADAM_STATES * trained) + weights))
    # What an earlier attempt of this stage saved is part of what is needed; what was set aside is not.
    whole = numbered(Path(str(args.output_dir)))
    saved = sum(file.stat().st_size for folder in whole for file in folder.rglob("*") if file.is_file())
    free = shutil.disk_usage(folder).free + saved
    if needed > free:
        raise DiskError(
            f"{folder} has {free / 1e9:.2f} GB free, and the checkpoints of a stage need about {needed / 1e9:.2f} GB",
            "free some, choose another --run-dir, or lower train.save_total_limit",
        )


def _kept(args: SFTConfig) -> int:
    """Return how many checkpoints of a stage stay: the limit, or all, where their number is known beforehand."""
    if args.save_total_limit:
        return int(args.save_total_limit)
    known = args.save_strategy == SaveStrategy.STEPS and args.max_steps > 0 and args.save_steps >= 1
    return max(int(args.max_steps // args.save_steps), 1) if known else 1


@contextmanager
def full_disk_said(folder: Path) -> Iterator[None]:
    """Turn an error that means a full disk into one that says so.

    Raises:
        DiskError: no space is left for the folder.
    """
    try:
        yield
    except Exception as error:
        if no_space(error, folder):
            raise DiskError(f"no space is left for {folder}", "free some and type the command again") from error
        raise


def no_space(error: BaseException, folder: Path) -> bool:
    """Return whether an error means that the disk is full."""
    if isinstance(error, OSError) and error.errno in FULL_DISK:
        return True
    said = str(error).lower()
    if "no space left" in said:
        return True
    return isinstance(error, RuntimeError | OSError) and shutil.disk_usage(folder).free < NOTHING_LEFT
