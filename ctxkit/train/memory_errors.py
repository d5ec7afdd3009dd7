"""A lack of memory, whichever library it comes from, as one message: where, how much, and what would make it fit."""

from __future__ import annotations

import errno
import re
import resource
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ctxkit import launch
from ctxkit.errors import OutOfMemoryError
from ctxkit.host import Host
from ctxkit.plan import advice
from ctxkit.reading import Located
from ctxkit.train.checkpoints import SEAL, numbered
from ctxkit.train.pulse import Pulse, machine

SAID = re.compile(
    r"out of memory|can't allocate memory|cannot allocate memory|not enough memory|bad_alloc"
    r"|CU(BLAS|DNN|SPARSE|SOLVER|FFT)_STATUS_(ALLOC_FAILED|INTERNAL_ERROR_ALLOC)"
    r"|No executable batch size found|insufficient shared memory|is killed by signal: Killed",
    re.IGNORECASE,
)
"""How libraries say it in errors that have no type of their own."""
LONGEST = 300
"""Characters of what a library said."""


def out_of_memory(error: BaseException) -> bool:
    """Return whether an error, or the one that it was made from, means that memory is short.

    That of a device (`torch.OutOfMemoryError`, and what CUDA and its libraries say in plain errors), of torch's CPU
    allocator, of Python, of the system, or of a data loader's worker that was killed for it.
    """
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, torch.OutOfMemoryError | MemoryError):
            return True
        if isinstance(seen, OSError) and seen.errno == errno.ENOMEM:
            return True
        if isinstance(seen, RuntimeError) and SAID.search(str(seen)):
            return True
        seen = seen.__cause__
    return False


@dataclass(frozen=True)
class Asked:
    """What a message of a lack of memory needs to know."""

    pulse: Pulse
    located: Located
    host: Host


@contextmanager
def short_memory_said(asked: Asked) -> Iterator[None]:
    """Turn an error that means a lack of memory into one that says where it came, and what would make the run fit.

    Raises:
        OutOfMemoryError: within, memory was asked for that is not there.
    """
    try:
        yield
    except Exception as error:
        # What loads a model or a checkpoint may have taken it for a fault of the recipe already: the cause counts.
        if isinstance(error, OutOfMemoryError) or not out_of_memory(error):
            raise
        raise OutOfMemoryError(_message(asked.pulse, error), _hint(asked)) from error


def _message(pulse: Pulse, error: Exception) -> str:
    rows = f", {pulse.rows[0]} x {pulse.rows[1]:,} tokens" if pulse.rows else ""
    process = f", process {pulse.rank} on {socket.gethostname()}" if launch.world_size() > 1 else ""
    said = " ".join(str(error).split())[:LONGEST] or type(error).__name__
    return "\n  ".join([f"out of memory: {pulse.where()}{rows}{process}", said, *memory()])


def _hint(asked: Asked) -> str:
    """Return what stays, and what the planner says would make it fit."""
    saved = _last_saved(asked.pulse)
    kept = f"{saved} stays, and the same command goes on from it" if saved else "nothing that was saved is lost"
    planned = advice(asked.located, asked.host, **_device())
    return f"{kept}\n{planned or _USUAL}"


_USUAL = (
    "what usually helps, the cheapest first: train.per_device_train_batch_size 1, train.gradient_checkpointing, "
    "model.dtype bfloat16, an adapter, a shorter chunker.length"
)


def _last_saved(pulse: Pulse) -> str:
    folder = pulse.folder.parent / "stages" / pulse.stage / "checkpoints"
    sealed = [path.name for path in numbered(folder) if (path / SEAL).exists()] if pulse.stage else []
    return sealed[-1] if sealed else ""


def _device() -> dict[str, Any]:
    """Return the GPU as the planner wants to know it."""
    if not torch.cuda.is_available():
        return {"gpus": launch.world_size()}
    about = torch.cuda.get_device_properties(torch.cuda.current_device())
    return {"gpu": about.name, "gpu_bytes": about.total_memory, "gpus": launch.world_size()}


def memory() -> list[str]:
    """Return lines on the memory of the accelerator and of the machine, as far as they can be found out."""
    return [*_of_device(), *_of_machine()]


def _of_device() -> list[str]:
    if not torch.cuda.is_available():
        return []
    device = torch.cuda.current_device()
    free, total = torch.cuda.mem_get_info(device)
    allocated, reserved = torch.cuda.memory_allocated(device), torch.cuda.memory_reserved(device)
    most = torch.cuda.max_memory_allocated(device)
    used = f"{_gb(allocated)} allocated (at most {_gb(most)}), {_gb(reserved)} reserved by this process"
    return [f"GPU {device}: {_gb(free)} free of {_gb(total)}; {used}"]


def _of_machine() -> list[str]:
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    free = available()
    said = f"; {_gb(free)} available" if free is not None else ""
    return [f"memory of the machine: {_gb(most)} used at most by this process{said}"]


def available() -> int | None:
    """Return the bytes that the system could still give to a process; None where it does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(found[0]) * 1024 if found else None


def _gb(size: int) -> str:
    return f"{size / 1e9:.2f} GB"


def killed_before(records: list[dict[str, Any]]) -> list[str]:
    """Return a line for each process of an attempt that ended without a word, from what it wrote last.

    That a kernel ended it for want of memory, nothing in the process can tell; but the kernel counts such ends.
    """
    here = machine()
    return [_last_seen(record, here) for record in records if "error" not in record]


def _last_seen(record: dict[str, Any], here: dict[str, Any]) -> str:
    said = f"process {record['rank']} (pid {record['pid']} on {record['host']}) was seen last in {record['where']}"
    counts = record.get("oom_kills"), here["oom_kills"]
    if record.get("boot") == here["boot"] and None not in counts and counts[0] < counts[1]:
        number = counts[1] - counts[0]
        said += f"; since then the kernel ended {number} process{'es' if number > 1 else ''} here for want of memory"
    return said
