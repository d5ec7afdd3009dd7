"""The run directory: what a run leaves, written so that a kill leaves nothing half-done that looks whole."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ctxkit import fingerprint, resuming, yaml_core
from ctxkit.errors import CtxkitError, DiskError, ResumeError
from ctxkit.masking import mask, masked

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ctxkit.fingerprint import Fingerprint
    from ctxkit.resuming import Resume

NAMES_SHOWN = 10
LOCK_TRIES, LOCK_SECONDS = 5, 0.05
"""A look at a lock holds it for a moment."""
PREPARED = {"data", "data.json", "data.html", "tokenizer", "rehearsal"}
"""What may lie in a directory that holds no run yet."""
PATIENCE_SECONDS = 600


@dataclass(frozen=True)
class RunDirectory:
    """The places of a run; see `docs/run-directory.md`."""

    path: Path

    @property
    def rehearsal(self) -> Path:
        """The file by which a directory is known as a rehearsal's."""
        return self.path / "rehearsal" / "rehearsal.json"

    @property
    def rehearsed(self) -> bool:
        """Whether a rehearsal made the directory its own, so that the next may clear it and no run may use it."""
        return self.rehearsal.is_file() and bool(read_json(self.rehearsal).get("made_by"))

    @property
    def tokenizer(self) -> Path:
        """The tokenizer of every stage."""
        return self.path / "tokenizer"

    def stage(self, name: str) -> Path:
        """Return the folder of a stage."""
        return self.path / "stages" / name

    def model(self, name: str) -> Path:
        """Return the folder of a stage's trained model; it exists only whole."""
        return self.stage(name) / "model"

    def stage_record(self, name: str) -> Path:
        """Return the file that says a stage is trained; written last."""
        return self.stage(name) / "stage.json"

    def data(self, key: str) -> Path:
        """Return the folder of prepared data; it exists only whole."""
        return self.path / "data" / key

    @property
    def data_index(self) -> Path:
        """Names the folder of prepared data of each stage; written when it is whole."""
        return self.path / "data.json"

    def record_data(self, stage: str, key: str) -> None:
        """Write down where the prepared data of a stage lies."""
        stages = read_json(self.data_index).get("stages", {})
        write_json(self.data_index, {"stages": {**stages, stage: key}})

    def evaluation(self, stage: str, index: int, kind: str) -> Path:
        """Return the file of one eval report."""
        return self.path / "evals" / stage / f"{index}-{kind}.json"

    @property
    def metrics(self) -> Path:
        """One JSON line a logged step."""
        return self.path / "metrics.jsonl"

    def status(self) -> dict[str, Any]:
        """Return `run.json`, or an empty mapping for a new directory.

        Raises:
            DiskError: it cannot be read.
        """
        file = self.path / "run.json"
        try:
            found = read_json(file)
        except OSError as error:
            message = f"the run directory {self.path} cannot be used: {error.strerror}"
            raise DiskError(message, "choose another with --run-dir") from error
        if not found and file.exists():
            raise DiskError(f"{file} is damaged", "choose another --run-dir")
        return found

    @property
    def begun(self) -> bool:
        """Whether anything is trained or measured, and not only data prepared."""
        return any(self.path.glob("stages/*")) or any(self.path.glob("evals/*"))

    def update(self, **values: object) -> None:
        """Write values into `run.json`."""
        write_json(self.path / "run.json", {**self.status(), **values})

    @property
    def killed(self) -> bool:
        """Whether a run that never ended left the directory: it says `running`, and no process here holds the lock."""
        if self.status().get("status") != "running":
            return False
        try:
            with (self.path / ".lock").open("a") as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the directory for this process; a killed process leaves no lock behind.

        Raises:
            CtxkitError: another process holds it.
            DiskError: the directory cannot be made or written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = (self.path / ".lock").open("a")
        except OSError as error:
            message = f"the run directory {self.path} cannot be written: {error.strerror}"
            raise DiskError(message, "choose another with --run-dir") from error
        with lock:
            if not any(_held(lock) for _ in range(LOCK_TRIES)):
                raise CtxkitError(
                    f"another process is running in {self.path}", "wait for it, or choose another --run-dir"
                )
            yield

    @property
    def stages_begun(self) -> dict[str, str]:
        """Of each stage that something was trained of, whether it is `finished` or `interrupted`."""
        begun = [path.parent.parent.name for path in self.path.glob("stages/*/checkpoints/begun.json")]
        finished = {path.parent.name for path in self.path.glob("stages/*/stage.json")}
        return dict.fromkeys(begun, resuming.INTERRUPTED) | dict.fromkeys(finished, resuming.FINISHED)

    def recorded(self) -> dict[str, Any] | None:
        """Return the plain recipe that the directory is a run of, or None for a new directory.

        Raises:
            ResumeError: it holds something else.
        """
        file = self.path / "recipe.yaml"
        if file.exists():
            parsed = _plain(yaml_core.parse(file.read_text(encoding="utf-8"), str(file)))
            if not _is_recipe(parsed):
                raise ResumeError(f"{file} is damaged", "choose another --run-dir")
            recorded: dict[str, Any] = parsed
            return recorded
        if self.status() or any(self.path.glob("stages/*")):
            raise ResumeError(f"{self.path} holds another run, without its recipe", "choose another --run-dir")
        found = {path.name for path in self.path.glob("*")} - PREPARED
        # What begins with a dot or was never renamed, a kill left behind.
        strange = {name for name in found if not name.startswith(".") and ".tmp-" not in name}
        if strange:
            names = ", ".join(sorted(strange)[:NAMES_SHOWN])
            raise ResumeError(f"{self.path} holds other files: {names}", "choose another --run-dir")
        return None

    def decide(self, new: Fingerprint, resume: Resume = resuming.AUTO) -> resuming.Decision | None:
        """Return what becomes of a recipe that is to go on here; None for a new directory.

        Raises:
            ResumeError: it may not; see `ctxkit.resuming`.
        """
        old = self.recorded()
        if old is None:
            return None
        changed = _component_changes(self.status().get("components", {}), new.components)
        if changed and not resume.allow_drift:
            raise resuming.another_recipe(self.path, changed)
        made = resuming.decide(old, new, self.stages_begun, resume, self.path)
        return replace(made, components=tuple(changed))

    def holds(self, new: Fingerprint, resume: Resume = resuming.AUTO) -> bool:
        """Return whether the recipe written here is this one; False for a new directory, or for other evals.

        Raises:
            ResumeError: what is trained changed; names each change.
        """
        decision = self.decide(new, resume)
        return decision is not None and decision.same

    def check(self, new: Fingerprint, resume: Resume = resuming.AUTO) -> resuming.Decision | None:
        """Return what becomes of a recipe that is to go on here; None where it begins, with data at most.

        Raises:
            ResumeError: the directory holds a run of another recipe, or what was typed about going on does not fit.
        """
        self._check_asked(resume)
        return self.settled(new, resume)

    def settled(self, new: Fingerprint, resume: Resume = resuming.AUTO) -> resuming.Decision | None:
        """Return the same for a process beside the first one, which may have begun meanwhile.

        Raises:
            ResumeError: the directory holds a run of another recipe.
        """
        try:
            return self.decide(new, resume)
        except ResumeError:
            if self.begun or not (self.path / "recipe.yaml").exists():
                raise
            return None

    def claim(self, new: Fingerprint, resume: Resume = resuming.AUTO) -> tuple[str, ...]:
        """Write the resolved recipe, unless the directory holds a run of another one; only under the lock.

        Returns what a person should read.

        Raises:
            ResumeError: it does, or what was typed about going on does not fit.
        """
        decision = self.check(new, resume)
        if decision is None and (self.path / "recipe.yaml").exists():
            # Nothing is trained or measured yet: prepared data is known by its content, the tokenizer is made again.
            shutil.rmtree(self.tokenizer, ignore_errors=True)
        if decision is None or not decision.same or decision.components:
            self._remember(decision)
        if decision is None or not decision.same:
            recipe = decision.recipe if decision else fingerprint.plain(new.recipe)
            write_yaml(self.path / "recipe.yaml", recipe)
        return decision.said if decision else ()

    def asked(self, resume: Resume) -> tuple[str, Path] | None:
        """Return the stage and the folder of the checkpoint that was asked for, if one was.

        Raises:
            ResumeError: it is none of this run, or of a stage that is finished.
        """
        if resume.checkpoint is None:
            return None
        found = self._named(Path(resume.checkpoint))
        if found is None:
            said = f"{resume.checkpoint} is no checkpoint of {self.path}"
            raise ResumeError(said, "say --resume STAGE/checkpoint-N, or the folder of one in this run directory")
        if not re.fullmatch(r"checkpoint-\d+", found.name):
            said = f"{resume.checkpoint} is none of the checkpoints that a stage goes on from"
            raise ResumeError(said, "give its folder the name checkpoint-N again, N being its step, and type that")
        stage = found.parent.parent.name
        if self.stage_record(stage).exists():
            said = f"stage {stage} is finished, and what follows it was trained from its end"
            raise ResumeError(said, "copy the checkpoint, and start a new run from it with model.name_or_path")
        return stage, self.stage(stage) / "checkpoints" / found.name

    def _named(self, typed: Path) -> Path | None:
        """Return the folder beside the checkpoints of a stage that somebody typed, or None."""
        short = self.stage(typed.parent.name) / "checkpoints" / typed.name
        try:
            found = (short if len(typed.parts) == len(("STAGE", "checkpoint")) and short.is_dir() else typed).resolve()
            inside = found.parent.name == "checkpoints" and found.parent.parent.parent == self.path.resolve() / "stages"
            return found if inside and found.is_dir() else None
        except (OSError, ValueError):  # no system would take such a name
            return None

    def _check_asked(self, resume: Resume) -> None:
        if resume.where == "never" and self.begun:
            raise ResumeError(f"{self.path} holds a run", "choose another --run-dir, or leave out --resume never")
        whole = (*self.path.glob("stages/*/stage.json"), *self.path.glob("stages/*/checkpoints/checkpoint-*"))
        if resume.where == "must" and not whole:
            said = f"{self.path} holds nothing to go on with"
            raise ResumeError(said, "is this the right --run-dir? Or leave out --resume must")
        self.asked(resume)

    def _remember(self, decision: resuming.Decision | None) -> None:
        """Write down what a changed recipe goes on from, before the recipe itself changes."""
        old = self.recorded()
        for stage in old["stages"] if old and decision else ():
            file = self.begun_record(stage["name"])
            begun = read_json(file)
            if begun and "schedules" not in begun:
                write_json(file, {**begun, "schedules": [[0, fingerprint.schedule(stage)]]})
        if self.status():
            # First: killed in between, the run must not look finished with evals that were not made.
            self.update(status="running")
        if decision is not None and (decision.drifted or decision.components):
            self.record_drift([*map(str, decision.drifted), *decision.components])

    def begun_record(self, stage: str) -> Path:
        """Return the file that says by what a stage is trained; written when its training begins."""
        return self.stage(stage) / "checkpoints" / "begun.json"

    def record_drift(self, changes: list[str], stage: str | None = None, step: int | None = None) -> None:
        """Add to `run.json` what a run goes on with that its earlier steps were not trained by.

        Args:
            changes: Each with its old and new value.
            stage: The one that goes on; None for every stage that was interrupted.
            step: Of its checkpoint.
        """
        begun = [stage] if stage else [name for name, how in self.stages_begun.items() if how == resuming.INTERRUPTED]
        steps = {name: self._last_step(name) if step is None else step for name in begun}
        entry = {"time": datetime.now(UTC).isoformat(timespec="seconds"), "from_steps": steps, "changes": changes}
        self.update(drift=[*self.status().get("drift", []), entry])

    def _last_step(self, stage: str) -> int:
        names = (path.name for path in self.stage(stage).glob("checkpoints/checkpoint-*"))
        steps = (name.removeprefix("checkpoint-") for name in names)
        return max((int(step) for step in steps if step.isdecimal()), default=0)


def _held(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        time.sleep(LOCK_SECONDS)
        return False
    return True


@contextmanager
def waiting_lock(path: Path) -> Iterator[None]:
    """Hold a file for this process, once no other process holds it; for short work alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all, secrets masked: to a temporary name, flushed to the disk, then renamed."""
    _write(path, mask(text))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    # In JSON a backslash and its number is what a half character of a broken file name was read from.
    with temporary.open("w", encoding="utf-8", errors="backslashreplace") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def write_json(path: Path, value: object) -> None:
    """Write a value as JSON, whole or not at all, secrets masked in its texts alone: a number never ends as `***`."""
    _write(path, json.dumps(masked(value), indent=1, ensure_ascii=False) + "\n")


def write_yaml(path: Path, value: Any) -> None:
    """Write plain values as YAML, in the same way."""
    _write(path, yaml_core.dump(masked(value)))


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file, or an empty one where there is no file or a damaged one."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def write_sealed(path: Path, value: Mapping[str, Any]) -> None:
    """Write an object as JSON with a hash of itself, secrets masked before it is made, whole or not at all."""
    shown = masked(value)
    write_json(path, {**shown, "seal": _seal(shown)})


def read_sealed(path: Path) -> dict[str, Any]:
    """Return the object in a file that `write_sealed` wrote, or an empty one where a byte of it is another."""
    value = read_json(path)
    return value if value.pop("seal", None) == _seal(value) else {}


def _seal(value: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")).hexdigest()[:32]


def wait_for(path: Path, seconds: float = 0.5) -> None:
    """Wait until the first process has written a file; its launcher ends this process should that one fail."""
    began, said = time.monotonic(), False
    while not path.exists():
        time.sleep(seconds)
        if not said and time.monotonic() - began > PATIENCE_SECONDS:
            said = True
            print(f"still waiting for {path}; every process must see the same run directory", file=sys.stderr)  # noqa: T201


def _plain(parsed: yaml_core.Parsed) -> Any:
    value = parsed.value
    if isinstance(value, dict):
        return {key: _plain(child) for key, child in value.items()}
    return [_plain(child) for child in value] if isinstance(value, list) else value


def _is_recipe(value: Any) -> bool:
    stages = value.get("stages") if isinstance(value, dict) else None
    return isinstance(stages, list) and all(isinstance(stage, dict) and "name" in stage for stage in stages)


def _component_changes(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    changed = [name for name in new if name in old and old[name] != new[name]]
    # Components are named `slot:kind`, files by the key of the recipe that names them.
    return [f"the {'source code' if ':' in name else 'content'} of {name} changed" for name in changed]
