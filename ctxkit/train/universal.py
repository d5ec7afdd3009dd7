"""DeepSpeed's checkpoints for another number of processes: its universal ones, made beside the sealed one.

DeepSpeed keeps the optimizer in one shard for each process. A universal checkpoint has a file for each weight instead,
which any number of processes can read. It is made anew at each start that needs one, from files that were looked at
before they are unpickled, and never read at a later start: what lies there by then may be cut short, or somebody
else's.
"""

from __future__ import annotations

import contextlib
import io
import shutil
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

import torch
from torch.serialization import safe_globals
from trl import SFTConfig, SFTTrainer

from ctxkit.errors import DiskError, ResumeError
from ctxkit.train.pickles import LATEST, known_classes
from ctxkit.train.progress import say

PREFIX = "universal-"
LATEST_UNIVERSAL = "latest_universal"
"""Names the folder that DeepSpeed loads where it is told to load a universal checkpoint."""
OPTIMIZER = "optimizer_state_dict"
"""The key of the optimizer's own state in what ZeRO-3 saves."""
COPIES = 2.5
"""Of the files of a checkpoint that lie on the disk at most while it is converted: loose parts, and what is made."""


def convert(checkpoint: Path, before: int, now: int) -> Path:
    """Return a folder that goes on like a checkpoint of so many processes, and that DeepSpeed loads in any number.

    The checkpoint itself is not changed: what DeepSpeed does not load from it is linked to.

    Raises:
        DiskError: there is no room for it.
        ResumeError: DeepSpeed cannot convert it, as that of an optimizer other than Adam.
    """
    clear(checkpoint.parent)
    source = checkpoint / (checkpoint / LATEST).read_text(encoding="utf-8").strip()
    _check_room(source)
    say(
        f"note: DeepSpeed keeps the optimizer of {checkpoint.name} in {before} shards, one for each process: for the "
        f"{now} of now it is converted to a universal checkpoint"
    )
    started, folder = time.monotonic(), checkpoint.parent / f"{PREFIX}{checkpoint.name}"
    folder.mkdir()
    try:
        _convert(source, folder / source.name)
    except Exception as error:
        clear(checkpoint.parent)
        said = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise ResumeError(
            f"{checkpoint} was made with {before} processes, and now there are {now}: DeepSpeed keeps the optimizer in "
            f"one shard for each process, and could not convert it ({said})",
            f"start {before} processes",
        ) from error
    _link(checkpoint, folder)
    said = f"{_bytes(folder / source.name) / 1e9:.2f} GB in {time.monotonic() - started:.1f} s"
    say(f"note: {folder.name} was made, {said}; it is deleted when the next checkpoint is saved")
    return folder


def clear(folder: Path) -> None:
    """Delete what was converted for a stage, whole or cut short."""
    for path in folder.glob(f"{PREFIX}checkpoint-*"):
        if path.is_symlink():
            path.unlink()
        else:
            shutil.rmtree(path)


def load_by(args: SFTConfig) -> None:
    """Have DeepSpeed load a universal checkpoint; before the trainer is made."""
    config: dict[str, Any] = args.hf_deepspeed_config.config
    config["checkpoint"] = {**config.get("checkpoint", {}), "load_universal": True}


def loaded(trainer: SFTTrainer) -> None:
    """Give each group a count of steps of its own: ZeRO-3 gives all of them one tensor, which each would raise."""
    engine: Any = trainer.model_wrapped
    for state in engine.optimizer.optimizer.state.values():
        if torch.is_tensor(state.get("step")):
            state["step"] = state["step"].clone()


def _convert(source: Path, target: Path) -> None:
    """Do what `ds_to_universal.py --inject_missing_state` does, one shard at a time in this process, and in silence."""
    from deepspeed.checkpoint import ds_to_universal

    options = Namespace(
        input_folder=str(source),
        output_folder=str(target),
        num_extract_workers=1,
        num_merge_workers=1,
        keep_temp_folder=False,
        strict=True,
        inject_missing_state=True,  # patterns of Megatron's layers, of which there are none here
    )
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        ds_to_universal.main(options)
    _keep_groups(target / "zero" / "optimizer_state.pt")


def _keep_groups(file: Path) -> None:
    """Take out of the first group what another group has otherwise: ZeRO-3 gives all of them what the first one has.

    They then keep what the recipe says. Without it the weights that are not to decay would.
    """
    with safe_globals(known_classes()):
        saved = torch.load(file, map_location="cpu", weights_only=True)
    if OPTIMIZER not in saved:
        return  # ZeRO-1 and 2, where each group has its own
    first, *others = saved[OPTIMIZER]["param_groups"]
    for key in [key for key in first if key != "params" and any(each.get(key) != first[key] for each in others)]:
        del first[key]
    torch.save(saved, file)


def _link(checkpoint: Path, folder: Path) -> None:
    for file in checkpoint.iterdir():
        if file.is_file() and file.name not in (LATEST, LATEST_UNIVERSAL):
            (folder / file.name).symlink_to(Path("..", checkpoint.name, file.name))


def _check_room(source: Path) -> None:
    needed, free = int(COPIES * _bytes(source)), shutil.disk_usage(source).free
    if needed > free:
        raise DiskError(
            f"{source} has {free / 1e9:.2f} GB free, and to convert it for another number of processes needs about "
            f"{needed / 1e9:.2f} GB",
            "free some, or start as many processes as before",
        )


def _bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
