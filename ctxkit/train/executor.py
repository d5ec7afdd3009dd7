"""Parts of the data made by datatrove's executors: on this machine, by a Slurm cluster, or by a Ray cluster.

datatrove keeps the logs, and a marker for each part that is finished; what a part is, `prepare_shard` says.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import importlib
import inspect
import multiprocessing
import os
import shlex
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from ctxkit import identity, yaml_core
from ctxkit.checks import load
from ctxkit.errors import CtxkitError, ExitCode
from ctxkit.host import Host
from ctxkit.masking import mask
from ctxkit.reading import Located
from ctxkit.registry import collect
from ctxkit.rundir import RunDirectory
from ctxkit.settings import seed
from ctxkit.train.disk import full_disk_said
from ctxkit.train.keys import DataKeys, data_keys
from ctxkit.train.prepare import data_context, prepare_shard
from ctxkit.train.progress import Bar
from ctxkit.train.sharding import Shard

CLASSES = {
    "local": ("datatrove.executor.local", "LocalPipelineExecutor"),
    "slurm": ("datatrove.executor.slurm", "SlurmPipelineExecutor"),
    "ray": ("datatrove.executor.ray", "RayPipelineExecutor"),
}
"""Module and name of each executor."""
OURS = {
    "pipeline": "ctxkit makes it",
    "tasks": "write --tasks",
    "workers": "write --workers",
    "logging_dir": "logs go into the run directory",
    "depends": "it takes another executor",
    "job_id_retriever": "it takes a function; job_id_position says the same in a number",
    "local_tasks": "every part is made here",
    "local_rank_offset": "every part is made here",
    "start_method": "the workers are ctxkit's",
    "nodes_per_task": "several nodes would write the same part",
}
"""Arguments of datatrove's executors that `--executor-arg` cannot set, and why."""


@dataclass(frozen=True)
class Execution:
    """What `--executor` and the options beside it ask for."""

    kind: Literal["local", "slurm", "ray"]
    tasks: int
    """Parts to make."""
    workers: int | None = None
    """Parts made at the same time; as many as there are processors on this machine, or as the cluster allows."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments of the executor, by datatrove's names."""


@dataclass(frozen=True)
class Part:
    """A step for datatrove's pipelines: tokenise part `rank` of `world_size`. It holds names alone, so it pickles."""

    recipe: str
    run_dir: str
    sets: tuple[str, ...] = ()
    plugin_files: tuple[str, ...] = ()
    folder: str = "."
    """The working directory, which the paths in a recipe are relative to; a cluster may start elsewhere."""

    def __call__(self, data: object = None, rank: int = 0, world_size: int = 1) -> None:
        """Make one part.

        Raises:
            CtxkitError: with `exit_code` saying what kind of thing went wrong.
        """
        del data
        with contextlib.chdir(self.folder):
            host = Host()
            for file in self.plugin_files:
                host.load_file(Path(file))
            located = load(Path(self.recipe), collect(host), host, self.sets)
            prepare_shard(located, RunDirectory(Path(self.run_dir)), Shard(rank, world_size))

    def line(self) -> str:
        """Return the line that puts the parts together, quoted for a shell."""
        options = [("--run-dir", self.run_dir), *(("--set", said) for said in self.sets)]
        options += [("--plugin", file) for file in self.plugin_files]
        return shlex.join(["ctxkit", "data", self.recipe, *(word for option in options for word in option)])


def parse_arguments(texts: Sequence[str]) -> dict[str, Any]:
    """Return the values of `KEY=VALUE` texts, each read as YAML 1.2.

    Raises:
        CtxkitError: with exit code 2, if one has no such form.
    """
    found = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not (equals and key.isidentifier()):
            raise _wrong(f"--executor-arg needs the form KEY=VALUE, such as time=02:00:00; got {text}")
        found[key] = _plain(yaml_core.parse(value, f"--executor-arg {key}"))
    return found


def prepare_parts(located: Located, directory: RunDirectory, part: Part, execution: Execution) -> bool:
    """Have the parts made that are not there yet; return whether all are, so that they can be put together.

    `slurm` only submits them. The directory is claimed and the tokenizer made first, by this process, so that parts
    made elsewhere find both.

    Raises:
        CtxkitError: datatrove is missing, an argument is not known, the cluster refuses, or a part fails; or what was
            typed holds a secret, which datatrove would write into its files.
    """
    if mask(part.line()) != part.line():
        raise _wrong("datatrove would write a secret into its files", "leave it to the environment, as HF_TOKEN is")
    build = _Builder.of(execution, part, located.recipe.name)
    with directory.locked(), full_disk_said(directory.path):
        directory.claim(identity.fingerprint(located.recipe))
        keys = _keys(located, directory)
        if all(directory.data(key.rows).is_dir() for key in keys):
            return True
        stores = sorted({name for key in keys for name in key.stores})
        digest = hashlib.sha256(" ".join(stores).encode()).hexdigest()[:12]
        # Other data, or another number of parts, has markers of its own.
        build = replace(build, logs=(directory.data("executor") / f"{digest}-of-{execution.tasks}").resolve())
        _forget(build.logs, directory.data("tokens"), stores, execution.tasks)
        _RUN[execution.kind](build)
        return not build.missing()


@dataclass(frozen=True)
class _Builder:
    """Makes executors that share everything but which parts they make."""

    cls: Any
    arguments: Mapping[str, Any]
    part: Part
    execution: Execution
    logs: Path = Path()

    @classmethod
    def of(cls, execution: Execution, part: Part, name: str) -> _Builder:
        """Return a builder, its arguments checked against what the executor takes."""
        executor = _imported(execution.kind)
        arguments = {**_defaults(execution, name), **execution.arguments}
        taken = inspect.signature(executor).parameters
        for key in execution.arguments:
            if key in OURS or key not in taken:
                near = difflib.get_close_matches(key, [known for known in taken if known not in OURS], n=1)
                hint = OURS.get(key) or (f"did you mean {near[0]}?" if near else f"see {executor.__name__}")
                raise _wrong(f"--executor-arg {key} cannot be set for {execution.kind}", hint)
        lacking = [
            name
            for name, parameter in taken.items()
            if parameter.default is inspect.Parameter.empty and name not in arguments and name not in OURS
        ]
        if lacking:
            said = " ".join(f"--executor-arg {name}=..." for name in lacking)
            raise _wrong(f"--executor {execution.kind} needs {said}")
        return cls(executor, arguments, part, execution)

    def __call__(self, **more: Any) -> Any:
        """Return an executor."""
        workers = -1 if self.execution.workers is None else self.execution.workers
        stated = {"tasks": self.execution.tasks, "workers": workers, "logging_dir": str(self.logs), **self.arguments}
        try:
            return self.cls(pipeline=[self.part], **{**stated, **more})
        except (TypeError, ValueError) as error:
            raise _wrong(f"{self.cls.__name__} refuses its arguments: {error}") from error

    def missing(self) -> list[int]:
        """Return the numbers of the parts that are not finished."""
        return list(self().get_incomplete_ranks(skip_completed=True))


def _run_local(build: _Builder) -> None:
    """Make the parts in worker processes, each part by an executor there.

    Not by the executor's own pool: where the kernel kills a worker for its memory, that pool waits for ever.

    Raises:
        CtxkitError: a part failed, or a worker was killed.
    """
    missing = build.missing()
    workers = min(build.execution.workers or os.cpu_count() or 1, len(missing))
    if not missing:
        return
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])  # the training stack is imported once, and shared
    threads = max((os.cpu_count() or 1) // workers, 1)
    pool = ProcessPoolExecutor(workers, context, _begin_worker, (build.logs, threads))
    with pool, Bar("data: parts", build.execution.tasks, build.execution.tasks - len(missing)) as bar:
        made = [pool.submit(_run_one, build, rank) for rank in missing]
        try:
            for future in as_completed(made):
                future.result()
                bar.advance()
        except BrokenProcessPool as error:
            hint = "if memory was short, take fewer --workers; typed again, the same line makes what is missing"
            raise CtxkitError(f"a process that made a part was killed; logs are in {build.logs}", hint) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _begin_worker(logs: Path, threads: int) -> None:
    """Send what a worker says to a file, share the processors, and end with the process that started it."""
    os.environ.setdefault("RAYON_NUM_THREADS", str(threads))  # the threads of a fast tokenizer
    logs.mkdir(parents=True, exist_ok=True)
    with (logs / f"worker-{os.getpid()}.log").open("a") as file:
        os.dup2(file.fileno(), sys.stderr.fileno())
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)  # a part has one writer: the line typed again must not meet an old worker


def _run_one(build: _Builder, rank: int) -> None:
    # Not `run`: it starts a process of its own that outlives a worker which is killed. This is what every `run` calls.
    build()._run_for_rank(rank, local_rank=1)  # noqa: SLF001


def _run_slurm(build: _Builder) -> None:
    """Submit the parts.

    Raises:
        CtxkitError: `sbatch` is not there or refuses, or a path cannot be written into its script.
    """
    if any(character.isspace() for character in str(build.logs)):
        raise CtxkitError(f"{build.logs} has a blank in it, which datatrove's job script cannot hold", "another folder")
    if "SLURM_ARRAY_TASK_ID" in os.environ:
        raise CtxkitError("this is a task of a Slurm array, which cannot submit others", "submit from outside of it")
    try:
        build().run()
    except FileNotFoundError as error:
        raise CtxkitError(
            f"{error.filename} is not there", "submit from a machine where Slurm's commands are"
        ) from error
    except subprocess.CalledProcessError as error:
        raise CtxkitError(f"{shlex.join(error.cmd)} failed with status {error.returncode}") from error


def _run_ray(build: _Builder) -> None:
    """Make the parts by the Ray cluster that RAY_ADDRESS names, or by one started here.

    Raises:
        CtxkitError: parts failed.
    """
    build().run()
    missing = build.missing()
    if missing:
        raise CtxkitError(
            f"{len(missing)} of {build.execution.tasks} parts failed; their logs are in {build.logs}/logs"
        )


_RUN = {"local": _run_local, "slurm": _run_slurm, "ray": _run_ray}


def _imported(kind: str) -> Any:
    """Return the class of an executor.

    Raises:
        CtxkitError: with exit code 2, if it is not installed.
    """
    extra = "ray" if kind == "ray" else "cluster"
    module, name = CLASSES[kind]
    try:
        if kind == "ray":
            importlib.import_module("ray")
        return getattr(importlib.import_module(module), name)
    except ImportError as error:
        said = f"--executor {kind} needs the extra `{extra}`: {error}"
        raise _wrong(said, f"pip install 'ctxkit-longcontext[{extra}]'") from error


def _defaults(execution: Execution, name: str) -> dict[str, Any]:
    """Return what a job gets unless a person says otherwise: a name, and the environment that this process runs in."""
    if execution.kind != "slurm":
        return {}
    named = {"job_name": f"ctxkit-{name}"}
    if execution.arguments.keys() & {"env_command", "condaenv", "venv_path"}:
        return named
    return {**named, "env_command": f'export PATH={shlex.quote(str(Path(sys.executable).parent))}:"$PATH"'}


def _keys(located: Located, directory: RunDirectory) -> list[DataKeys]:
    context = data_context(located, directory)
    return [
        data_keys(stage.data, replace(context, seed=seed(stage)), directory.tokenizer)
        for stage in located.recipe.stages
    ]


def _forget(logs: Path, tokens: Path, stores: Sequence[str], tasks: int) -> None:
    """Take away the marker of each part that is gone, with the store it went into gone as well."""
    for index in range(tasks):
        shard = Shard(index, tasks)
        if not all((tokens / name).is_dir() or (tokens / shard.name(name)).is_dir() for name in stores):
            (logs / "completions" / f"{index:05d}").unlink(missing_ok=True)


def _plain(parsed: yaml_core.Parsed) -> Any:
    value = parsed.value
    if isinstance(value, dict):
        return {key: _plain(child) for key, child in value.items()}
    return [_plain(child) for child in value] if isinstance(value, list) else value


def _wrong(message: str, hint: str = "") -> CtxkitError:
    return CtxkitError(message, hint, exit_code=ExitCode.RECIPE)
