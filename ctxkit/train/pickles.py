"""What of a checkpoint is unpickled without a look by the library that loads it: looked at here, and never loaded.

DeepSpeed loads its files with `weights_only=False`, torch's distributed checkpoints have a pickled `.metadata` and
pickled values that are no tensors. All of them name a handful of classes; what names anything else is code. A seal does
not help: who can write the files can seal them.
"""

from __future__ import annotations

import importlib
import io
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import torch
from torch.distributed.checkpoint.metadata import BytesStorageMetadata
from torch.serialization import get_unsafe_globals_in_checkpoint
from transformers.trainer_pt_utils import safe_globals

from ctxkit.errors import ResumeError
from ctxkit.trust import trusted

KEY = "checkpoint"
"""What `--trust` opens."""
LATEST = "latest"
"""Names the folder that DeepSpeed loads."""
DEEPSPEED = frozenset(
    {
        "deepspeed.runtime.fp16.loss_scaler.DynamicLossScaler",
        "deepspeed.runtime.fp16.loss_scaler.LossScaler",
        "deepspeed.runtime.zero.config.ZeroStageEnum",
        "deepspeed.utils.tensor_fragment.fragment_address",
    }
)
"""The classes that its checkpoints name, as those of ZeRO 2 and 3 by version 0.19 do."""
_METADATA = "torch.distributed.checkpoint.metadata"
_PLAIN = {
    ("collections", "OrderedDict"),
    ("pathlib", "PosixPath"),
    ("torch", "Size"),
    ("torch", "device"),
    ("torch.distributed.checkpoint.filesystem", "_StorageInfo"),
    ("torch.serialization", "_get_layout"),
}
_KNOWN = ("optimizer.pt", "scheduler.pt", "scaler.pt")
"""Files that transformers loads with `weights_only=True`."""


def known_classes() -> list[Any]:
    """Return the classes that DeepSpeed's checkpoints name, for torch to load those alone."""
    named = (name.rpartition(".") for name in sorted(DEEPSPEED))
    return [getattr(importlib.import_module(module), name) for module, _, name in named]


def refuse_foreign(checkpoint: Path) -> None:
    """Refuse a checkpoint that its library would unpickle code from, unless `--trust checkpoint` was said.

    It is not set aside as a damaged one is: it may be whole, of a library that names classes which are not known here,
    and to begin again would lose what was trained.

    Raises:
        ResumeError: names the file, what it names, and the way out.
    """
    reason = "" if KEY in trusted() else next(_reasons(checkpoint), "")
    if reason:
        hint = f"if this run is yours, add `--trust {KEY}`; a stranger's checkpoint is his code, with your rights"
        raise ResumeError(f"{checkpoint} is not loaded: {reason}", hint)


def _reasons(checkpoint: Path) -> Iterator[str]:
    yield from _outside(checkpoint)
    for pattern, check in _CHECKS.items():
        for file in sorted(checkpoint.rglob(pattern)):
            if file.parent == checkpoint and file.name in _KNOWN:
                continue
            try:
                check(file)
            except Exception as error:  # noqa: BLE001 - whatever a hostile file makes of the reader
                said = " ".join(str(error).split())[:200]
                yield f"{file.relative_to(checkpoint)} may hold code: {said}"


def _outside(checkpoint: Path) -> Iterator[str]:
    """Yield it where DeepSpeed would be led to another folder."""
    file = checkpoint / LATEST
    if file.is_file():
        name = file.read_text(encoding="utf-8", errors="replace").strip()
        if Path(name).name != name or name in ("", ".", "..") or (checkpoint / name).is_symlink():
            yield f"{LATEST} names {name!r}, which does not lie in it"


def _check_states(file: Path) -> None:
    with file.open("rb") as stream:
        _check_names(stream)


def _check_names(stream: IO[bytes]) -> None:
    """Refuse what names other classes than torch itself allows, or those of DeepSpeed.

    torch reads the instructions one by one and runs none; it knows only those that `torch.save` writes.
    """
    with safe_globals():
        found = set(get_unsafe_globals_in_checkpoint(stream)) - DEEPSPEED
    if found:
        raise pickle.UnpicklingError(f"it names {', '.join(sorted(found))}")


class _Strict(pickle.Unpickler):
    """Unpickle what names nothing but the classes of torch's own metadata."""

    def find_class(self, module: str, name: str) -> Any:
        found = getattr(torch, name, None) if module == "torch" else None
        if isinstance(found, torch.dtype):
            return found
        if (module, name) not in _PLAIN and not (module == _METADATA and name.isidentifier()):
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        wanted = super().find_class(module, name)
        if module == _METADATA and getattr(wanted, "__module__", "") != _METADATA:
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return wanted


def _check_metadata(file: Path) -> None:
    with file.open("rb") as stream:
        metadata = _Strict(stream).load()
    for index, place in metadata.storage_data.items():
        if isinstance(metadata.state_dict_metadata.get(index.fqn), BytesStorageMetadata):
            with (file.parent / place.relative_path).open("rb") as shard:
                shard.seek(place.offset)
                _check_names(io.BytesIO(shard.read(place.length)))


_CHECKS: dict[str, Callable[[Path], None]] = {"*.pt": _check_states, ".metadata": _check_metadata}
