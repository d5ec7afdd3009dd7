"""Disk space: asked for before training starts, and recognised when it ran out."""

from __future__ import annotations

import errno
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from peft import PeftModel
from safetensors import SafetensorError
from transformers.trainer_utils import SaveStrategy
from trl import SFTConfig

from ctxkit.errors import DiskError
from ctxkit.launch import rank
from ctxkit.train.blame import FULL_DISK
from ctxkit.train.checkpoints import SEAL, numbered

MARGIN = 1.1
NOTHING_LEFT = 1 << 20
"""Bytes under which a failed write means a full disk; torch's own message does not say so."""
ADAM_STATES = 2
DEEPSPEED_BYTES = 12
"""Of each trained number in its optimizer's files: itself and two states, in 32 bits."""
TORCH_WRITER = re.compile(r"PytorchStreamWriter|inline_container\.cc.*unexpected pos")
"""What torch says when a file cannot be written whole; it does not say why."""
UNWRITABLE = frozenset((errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR, errno.ESTALE, errno.EIO))
"""Errors of a file system that lets nothing be written, or that went away."""


def preflight(model: torch.nn.Module, args: SFTConfig, folder: Path) -> None:
    """Make sure that the checkpoints kept at once, one being written, and the final model fit on the disk.

    Counts what each of them holds; a model that is sharded is saved as one, so it makes no difference.

    Raises:
        DiskError: with the bytes needed and the bytes free.
    """
    saved, states = _sizes(model, args)
    checkpoints = _kept(args) + 1 if args.save_strategy != SaveStrategy.NO else 0
    needed = int(MARGIN * (checkpoints * (saved + states) + saved))
    # What an earlier attempt of this stage saved is part of what is needed; what was set aside is not.
    whole = numbered(Path(str(args.output_dir)))
    lies = sum(file.stat().st_size for folder in whole for file in folder.rglob("*") if file.is_file())
    free = shutil.disk_usage(folder).free + lies
    if needed > free:
        raise DiskError(
            f"{folder} has {free / 1e9:.2f} GB free, and the checkpoints of a stage need about {needed / 1e9:.2f} GB",
            "free some, choose another --run-dir, or lower train.save_total_limit",
        )


def _sizes(model: torch.nn.Module, args: SFTConfig) -> tuple[int, int]:
    """Return the bytes of a saved model, of an adapter alone where it has one, and of what goes on with its training.

    The latter: two states of each trained number, in its own type. DeepSpeed writes them in 32 bits, with a copy of
    the numbers themselves, and the weights once more (`mp_rank_*_model_states.pt`).
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    saved = trained if isinstance(model, PeftModel) else list(model.parameters())
    weights = sum(_numbers(parameter) * parameter.element_size() for parameter in saved)
    if args.deepspeed:
        return weights, weights + DEEPSPEED_BYTES * sum(map(_numbers, trained))
    return weights, ADAM_STATES * sum(_numbers(parameter) * parameter.element_size() for parameter in trained)


def _numbers(parameter: torch.nn.Parameter) -> int:
    """Return how many numbers a parameter has, those that ZeRO-3 keeps elsewhere included."""
    return int(getattr(parameter, "ds_numel", parameter.numel()))


def _kept(args: SFTConfig) -> int:
    """Return how many checkpoints of a stage stay: the limit, or all, where their number is known beforehand."""
    if args.save_total_limit:
        return int(args.save_total_limit)
    known = args.save_strategy == SaveStrategy.STEPS and args.max_steps > 0 and args.save_steps >= 1
    return max(int(args.max_steps // args.save_steps), 1) if known else 1


@contextmanager
def full_disk_said(folder: Path) -> Iterator[None]:
    """Turn an error that means that the folder cannot be written into one that says so.

    Raises:
        DiskError: no space is left for the folder, it may not be written any more, or it is gone.
    """
    try:
        yield
    except Exception as error:
        if no_space(error, folder):
            clear_partial(folder)
            said = f"no space is left for {folder}, or its files may not be so large"
            raise DiskError(said, "free some, or raise the limit, and type the command again") from error
        if _unwritable(error, folder):
            said = f"{folder} cannot be written any more: {' '.join(str(error).split())}"
            raise DiskError(said, "mend that and type the command again, or choose another --run-dir") from error
        raise


def no_space(error: BaseException, folder: Path) -> bool:
    """Return whether an error means that the disk is full, a quota used up, or a file larger than it may be."""
    if _number(error) in {*FULL_DISK, errno.EFBIG}:
        return True
    said = str(error)
    if "no space left" in said.lower():
        return True
    if not isinstance(error, RuntimeError | OSError) or not folder.is_dir():
        return False
    return bool(TORCH_WRITER.search(said)) or shutil.disk_usage(folder).free < NOTHING_LEFT


def clear_partial(folder: Path) -> None:
    """Delete what a run was saving when the disk was full: no checkpoint that is sealed, no model that counts."""
    if rank() != 0:
        return
    for checkpoints in folder.glob("stages/*/checkpoints"):
        for path in numbered(checkpoints)[-1:]:
            if not (path / SEAL).exists():
                shutil.rmtree(path, ignore_errors=True)
    for path in folder.glob("stages/*/model.tmp"):
        shutil.rmtree(path, ignore_errors=True)


def _unwritable(error: BaseException, folder: Path) -> bool:
    """Return whether an error says that the folder, or something in it, cannot be written."""
    if not folder.is_dir() and isinstance(error, RuntimeError | OSError | SafetensorError):
        return True
    named = str(getattr(error, "filename", None) or error)
    return _number(error) in UNWRITABLE and str(folder) in named


def _number(error: BaseException) -> int | None:
    """Return the number that the system gave an error; safetensors only spells it out."""
    if isinstance(error, OSError):
        return error.errno
    found = re.search(r"\(os error (\d+)\)", str(error))
    return int(found[1]) if found else None
