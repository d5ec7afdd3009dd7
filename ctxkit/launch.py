"""What a launcher told this process, and the line that starts the recipe on several."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def world_size() -> int:
    """Return the number of processes that the launcher started; 1 without a launcher."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """Return the number of this process among them; 0 without a launcher."""
    return int(os.environ.get("RANK", "0"))


def alone() -> None:
    """Make this process one of its own, without a launcher or a GPU; only before the training libraries load."""
    for name in [name for name in os.environ if name.startswith(_LAUNCHERS)]:
        del os.environ[name]
    os.environ["CUDA_VISIBLE_DEVICES"] = ""


_LAUNCHERS = ("RANK", "WORLD_SIZE", "LOCAL_", "GROUP_", "ROLE_", "MASTER_", "TORCHELASTIC_", "ACCELERATE_", "FSDP_")
"""How the variables begin by which a launcher tells a process of the others."""


def launch_line(recipe: str, num_processes: int, config_file: str | None = None, arguments: Sequence[str] = ()) -> str:
    """Return the accelerate line that runs a recipe file, quoted for a shell.

    Works from every folder: `-m ctxkit` needs no checkout, unlike `accelerate launch ctxkit`, which runs the folder.
    """
    words = ["accelerate", "launch"]
    if config_file:
        words += ["--config_file", config_file]
    words += [
        "--num_processes",
        str(num_processes),
        *(["--multi_gpu"] if num_processes > 1 and not config_file else []),
    ]
    return shlex.join([*words, "-m", "ctxkit", "run", recipe, *arguments])
