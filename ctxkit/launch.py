"""What a launcher told this process, and the line that starts the recipe on several."""

from __future__ import annotations

import ctypes
import os
import shlex
import signal
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


PORT = 29500
"""Where machines meet unless it is said, as with torchrun and accelerate."""
STATUS = "CTXKIT_LAUNCH_STATUS"
"""Variable that names the folder in which each process that `ctxkit launch` started leaves its exit code."""
_PR_SET_PDEATHSIG = 1


def world_size() -> int:
    """Return the number of processes that the launcher started; 1 without a launcher."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """Return the number of this process among them; 0 without a launcher."""
    return int(os.environ.get("RANK", "0"))


def processes(count: int) -> str:
    """Return a number of processes in words: `1 process`, `2 processes`."""
    return f"{count} process" if count == 1 else f"{count} processes"


def alone() -> None:
    """Make this process one of its own, without a launcher or a GPU; only before the training libraries load."""
    for name in [name for name in os.environ if name.startswith(_LAUNCHERS)]:
        del os.environ[name]
    os.environ["CUDA_VISIBLE_DEVICES"] = ""


_LAUNCHERS = ("RANK", "WORLD_SIZE", "LOCAL_", "GROUP_", "ROLE_", "MASTER_", "TORCHELASTIC_", "ACCELERATE_", "FSDP_")
"""How the variables begin by which a launcher tells a process of the others."""


@dataclass(frozen=True)
class Machines:
    """How many processes there are, and on which machines."""

    num_processes: int = 1
    """Over all machines."""
    num_machines: int = 1
    main_process_ip: str = "HOST"
    """Name or address of the machine at which all meet; any of them."""
    main_process_port: int = PORT
    machine_rank: int = 0
    """Which machine this is, from 0; only accelerate with a `config_file` asks for it."""
    gpus: bool = True
    """Without one, the processes talk through gloo, for which accelerate has no launcher of its own."""
    deepspeed: bool = False
    """Even one process must then be told where it meets others, which accelerate's line for one leaves out."""

    @property
    def local(self) -> int:
        """Processes of one machine."""
        return self.num_processes // self.num_machines

    @property
    def endpoint(self) -> str:
        """Where all meet."""
        return f"{self.main_process_ip}:{self.main_process_port}"


def launch_line(
    recipe: str,
    num_processes: int,
    config_file: str | None = None,
    arguments: Sequence[str] = (),
    *,
    num_machines: int = 1,
    deepspeed: bool = False,
) -> str:
    """Return the line that runs a recipe file on machines with GPUs, quoted for a shell; see `launch_words`."""
    machines = Machines(num_processes, num_machines, deepspeed=deepspeed)
    return shlex.join(launch_words(recipe, machines, config_file, arguments))


def launch_words(
    recipe: str, machines: Machines, config_file: str | None = None, arguments: Sequence[str] = ()
) -> list[str]:
    """Return the words of the line that runs a recipe file.

    Works from every folder: `-m ctxkit` needs no checkout, unlike `accelerate launch ctxkit`, which runs the folder.
    """
    run = ["-m", "ctxkit", "run", recipe, *arguments]
    if config_file:
        return [*_accelerate(machines, config_file), *run]
    if machines.num_machines > 1:
        # The same words on every machine: torchrun agrees on the order of machines by itself.
        place = ["--nnodes", str(machines.num_machines), "--nproc-per-node", str(machines.local)]
        meeting = ["--rdzv-backend", "c10d", "--rdzv-endpoint", machines.endpoint, "--rdzv-id", "ctxkit"]
        return ["torchrun", *place, *meeting, *run]
    if machines.gpus and not (machines.deepspeed and machines.num_processes == 1):
        return [*_accelerate(machines, None), *run]
    if machines.num_processes > 1 or machines.deepspeed:
        return ["torchrun", "--standalone", "--nproc-per-node", str(machines.num_processes), *run]
    return ["python", *run]


def _accelerate(machines: Machines, config_file: str | None) -> list[str]:
    words = ["accelerate", "launch", *(["--config_file", config_file] if config_file else [])]
    words += ["--num_processes", str(machines.num_processes)]
    if machines.num_machines > 1:
        words += ["--num_machines", str(machines.num_machines), "--machine_rank", str(machines.machine_rank)]
        words += ["--main_process_ip", machines.main_process_ip, "--main_process_port", str(machines.main_process_port)]
        return [*words, "--rdzv_backend", "c10d"]
    return [*words, *(["--multi_gpu"] if machines.num_processes > 1 and not config_file else [])]


def join() -> None:
    """In a process that `ctxkit launch` started: be told to stop when the launcher dies, however it does."""
    if STATUS in os.environ:
        die_with_parent()


def die_with_parent() -> None:
    """Have the system send this process SIGTERM when its parent ends; only Linux can."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def report(exit_code: int) -> None:
    """In a process that `ctxkit launch` started: leave the exit code, which the launcher does not hand on.

    The first one counts: it says when the process found that it had to end.
    """
    folder = os.environ.get(STATUS)
    if folder:
        with suppress(FileExistsError), (Path(folder) / str(rank())).open("x", encoding="utf-8") as file:
            file.write(str(int(exit_code)))
