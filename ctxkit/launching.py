"""`ctxkit launch`: the machines that were typed or that a recipe states, and what is started on them or written."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ctxkit.errors import CtxkitError, DiskError, ExitCode
from ctxkit.jobs import ENGINES, Job, parse_arguments
from ctxkit.jobs.job import TOKEN
from ctxkit.launch import PORT, Machines, launch_words
from ctxkit.layouts import layout
from ctxkit.masking import mask
from ctxkit.resuming import AUTO, Resume
from ctxkit.trust import trusted

if TYPE_CHECKING:
    from ctxkit.reading import Located

MACHINE_RANKS = ("SLURM_NODEID", "SKYPILOT_NODE_RANK", "PET_NODE_RANK")
"""Variables in which engines say which machine this is."""


@dataclass(frozen=True)
class LaunchRequest:
    """What was typed after `ctxkit launch`."""

    recipe: str
    num_processes: int | None = None
    """Over all machines."""
    num_machines: int | None = None
    machine_rank: int | None = None
    main_process_ip: str | None = None
    main_process_port: int | None = None
    run_dir: str | None = None
    engine: str | None = None
    out: str | None = None
    job_arguments: tuple[str, ...] = ()
    dry_run: bool = False
    resume: str = AUTO.where
    on_change: Literal["keep", "reset"] | None = None
    allow_drift: bool = False
    quick: bool = False
    sets: tuple[str, ...] = ()
    plugin_files: tuple[str, ...] = ()

    @property
    def file(self) -> str:
        """The recipe, under a name that no command line takes for an option."""
        return f"./{self.recipe}" if self.recipe.startswith("-") else self.recipe

    @property
    def arguments(self) -> tuple[str, ...]:
        """Those that `ctxkit run` gets."""
        going = [] if self.resume == AUTO.where else ["--resume", self.resume]
        going += ["--on-change", self.on_change] if self.on_change else []
        going += [f"--{name}" for name, given in (("allow-drift", self.allow_drift), ("quick", self.quick)) if given]
        sets = [word for text in self.sets for word in ("--set", text)]
        plugins = [word for file in self.plugin_files for word in ("--plugin", file)]
        return (*(["--run-dir", self.run_dir] if self.run_dir else []), *going, *sets, *plugins)

    @property
    def going_on(self) -> Resume:
        """What was typed about going on."""
        return Resume(self.resume, self.allow_drift, self.on_change, self.quick)

    def check(self) -> None:
        """Refuse options that mean nothing together.

        Raises:
            CtxkitError: with exit code 2.
        """
        for name, given in (("--out", self.out), ("--job-arg", self.job_arguments)):
            if given and not self.engine:
                raise _refused(f"{name} needs --on ENGINE", f"there are {', '.join(ENGINES)}")
        if self.engine is not None and self.engine not in ENGINES:
            raise _refused(f"--on {self.engine}: there is no such engine", f"there are {', '.join(ENGINES)}")


def machines(request: LaunchRequest, located: Located) -> Machines:
    """Return the processes and machines that were typed, or that the recipe states.

    Raises:
        CtxkitError: with exit code 2, they do not divide, one is not there, or it is not said where several meet.
    """
    stated = located.recipe.launch
    count, over = request.num_processes or stated.num_processes, request.num_machines or stated.num_machines
    if count % over:
        raise _refused(f"{count} processes cannot be shared evenly by {over} machines", "--num-processes counts all")
    if over > 1 and request.main_process_ip is None and request.engine is None and not request.dry_run:
        raise _refused(f"{over} machines need --main-process-ip HOST", "any of them; type the same line on each")
    rank = request.machine_rank
    if rank is None:
        rank = next((int(os.environ[name]) for name in MACHINE_RANKS if os.environ.get(name, "").isdecimal()), 0)
    if rank >= over and request.machine_rank is not None:
        raise _refused(f"--machine-rank {rank}: the first of {over} machines is 0", f"the last one is {over - 1}")
    host, port = request.main_process_ip or "HOST", request.main_process_port or PORT
    deepspeed = any(layout(located, stage).deepspeed for stage in located.recipe.stages)
    return Machines(count, over, host, port, rank, gpus=devices() != 0, deepspeed=deepspeed)


def words(request: LaunchRequest, located: Located, place: Machines) -> list[str]:
    """Return the words of the launcher's line on this machine.

    Raises:
        CtxkitError: with exit code 2, this machine has fewer GPUs than processes, or accelerate's file is not there.
    """
    found, config = devices(), located.recipe.launch.config_file
    if config and not request.dry_run and not Path(config).is_file():
        said = f"launch.config_file: there is no file {config} in {Path.cwd()}"
        raise _refused(said, "its path is relative to the folder in which you type the line")
    if found and found < place.local:
        said = f"{place.local} processes need as many GPUs, and this machine has {found}"
        raise _refused(said, f"--num-processes {found * place.num_machines} uses them all")
    return launch_words(request.file, place, config, request.arguments)


def environment(place: Machines) -> dict[str, str]:
    """Return the variables that the launcher gets: on a CPU the cores are shared, where nobody has said how."""
    if place.gpus or "OMP_NUM_THREADS" in os.environ:
        return {}
    return {"OMP_NUM_THREADS": str(max((os.cpu_count() or 1) // place.local, 1))}


def devices() -> int | None:
    """Return the number of GPUs that this process may use; None where there are some that nobody counts."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    chosen = None if visible is None else [name for name in visible.split(",") if name.strip() not in ("", "-1")]
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30, check=True).stdout  # noqa: S607 - wherever the driver put it
    except (OSError, subprocess.SubprocessError):
        return None if Path("/dev/kfd").exists() else 0  # AMD's, which has no one command to count them
    found = sum(line.startswith("GPU ") for line in listed.splitlines())
    return found if chosen is None else min(found, len(chosen))


def job_file(request: LaunchRequest, located: Located, place: Machines) -> str:
    """Return the text of the job file for the engine that was typed.

    Raises:
        CtxkitError: with exit code 2, the engine lacks a setting or does not know one, or a secret was typed.
    """
    job = Job(
        name=located.recipe.name,
        recipe=request.file,
        num_processes=place.num_processes,
        num_machines=place.num_machines,
        arguments=(*request.arguments, *(word for key in sorted(trusted()) for word in ("--trust", key))),
        run_dir=request.run_dir,
        folder=str(Path.cwd()),
        settings=parse_arguments(request.job_arguments),
        has_token=TOKEN in os.environ,
    )
    text = ENGINES[str(request.engine)](job)
    if mask(text) != text:
        raise _refused("the job file would hold a secret", "leave it to the environment of the job, as HF_TOKEN is")
    return text


def write(text: str, file: Path) -> None:
    """Write a job file, and over none that says something else.

    Raises:
        CtxkitError: another file has that name, or it cannot be written.
    """
    try:
        if file.exists() and file.read_text(encoding="utf-8", errors="replace") != text:
            raise _refused(f"{file} is there and says something else", "remove it, or choose another --out")
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise DiskError(f"{file} cannot be written: {error.strerror}", "choose another --out") from error


def _refused(message: str, hint: str) -> CtxkitError:
    return CtxkitError(message, hint, exit_code=ExitCode.RECIPE)
