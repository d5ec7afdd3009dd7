"""What a job file is made of, whatever engine reads it."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Protocol

from ctxkit.errors import CtxkitError, ExitCode

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

TOKEN = "HF_TOKEN"
"""Passed on by its name alone: no job file holds a secret."""


@dataclass(frozen=True)
class Job:
    """A run on machines elsewhere."""

    name: str
    """Of the recipe: letters, digits, `.`, `_` and `-`."""
    recipe: str
    """Its file, as the machines find it."""
    num_processes: int
    """Over all machines, one a GPU."""
    num_machines: int
    arguments: tuple[str, ...] = ()
    """Those of `ctxkit run`."""
    run_dir: str | None = None
    """Where it writes; among the arguments too."""
    folder: str = "."
    """In which the job was made, and paths that are relative begin."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """What was typed for the engine, by key."""
    has_token: bool = False
    """Whether a token of the hub is in the environment in which the job was made."""

    @property
    def local(self) -> int:
        """GPUs of one machine."""
        return self.num_processes // self.num_machines

    def line(self, host: str, port: str) -> str:
        """Return the `ctxkit launch` line that every machine types, quoted for a shell.

        Args:
            host: What the shell of the machine expands to the name of one of them, such as `"$head"`.
            port: The same for the port.
        """
        words = ["ctxkit", "launch", self.recipe, "--num-processes", str(self.num_processes)]
        if self.num_machines == 1:
            # Typed, for the recipe may state more.
            return shlex.join([*words, "--num-machines", "1", *self.arguments])
        place = f"--num-machines {self.num_machines} --main-process-ip {host} --main-process-port {port}"
        return " ".join(part for part in (shlex.join(words), place, shlex.join(self.arguments)) if part)

    def take(self, known: Collection[str], engine: str) -> dict[str, str]:
        """Return the settings, all of which an engine knows.

        Raises:
            CtxkitError: names one that it does not know, and those that it does.
        """
        for key in self.settings:
            if key not in known:
                said = f"--job-arg {key}: {engine} has no such setting"
                raise CtxkitError(said, f"there are {', '.join(sorted(known))}", exit_code=ExitCode.RECIPE)
        return dict(self.settings)

    def need(self, key: str, engine: str, example: str) -> str:
        """Return a setting that an engine cannot do without.

        Raises:
            CtxkitError: it was not typed.
        """
        if key not in self.settings:
            said = f"--on {engine} needs --job-arg {key}=..., such as {key}={example}"
            raise CtxkitError(said, exit_code=ExitCode.RECIPE)
        return self.settings[key]

    def lasting(self, engine: str) -> PurePosixPath:
        """Return the run directory, which has to outlive the machine for the job to go on where it was.

        Raises:
            CtxkitError: it lies in the folder of the job, which such an engine makes anew each time, or holds `..`.
        """
        place = PurePosixPath(self.run_dir or "")
        if not place.is_absolute() or ".." in place.parts:
            said = (
                f"--on {engine} needs --run-dir with an absolute path on storage that outlives a machine, without `..`"
            )
            hint = f"such as --run-dir /runs/{self.name}; --job-arg volume=NAME:/runs mounts a volume there"
            raise CtxkitError(said, hint, exit_code=ExitCode.RECIPE)
        return place

    def volume(self, engine: str) -> tuple[str, str] | None:
        """Return name and place of the volume that holds the run directory, or None where the job names none.

        Raises:
            CtxkitError: it has another form, or the run directory is not on it.
        """
        stated, run_dir = self.settings.get("volume"), self.lasting(engine)
        if stated is None:
            return None
        name, _, place = stated.partition(":")
        if not (name and place.startswith("/")):
            said = f"--job-arg volume={stated}: needs NAME:/PATH, such as volume=runs:/runs"
            raise CtxkitError(said, exit_code=ExitCode.RECIPE)
        if not run_dir.is_relative_to(place):
            said = f"the run directory {run_dir} is not on the volume at {place}"
            raise CtxkitError(said, f"such as --run-dir {place}/{self.name}", exit_code=ExitCode.RECIPE)
        return name, place


class Engine(Protocol):
    """Write the file that an engine reads."""

    def __call__(self, job: Job) -> str:
        """Return the text of the file.

        Raises:
            CtxkitError: with exit code 2, a setting is missing, or is none of this engine's.
        """


def parse_arguments(typed: Iterable[str]) -> dict[str, str]:
    """Return the values of `--job-arg KEY=VALUE` by key.

    Raises:
        CtxkitError: one has another form, or a character that would end the line it is written to.
    """
    found: dict[str, str] = {}
    for text in typed:
        key, equals, value = text.partition("=")
        if not (equals and re.fullmatch(r"[A-Za-z][A-Za-z0-9_.-]*", key)) or not value.isprintable():
            said = f"--job-arg {text!r}: needs KEY=VALUE on one line"
            raise CtxkitError(said, "such as time=24:00:00", exit_code=ExitCode.RECIPE)
        found[key] = value
    return found
