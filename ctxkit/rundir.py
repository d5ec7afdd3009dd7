"""The run directory: what a run leaves, written so that a kill leaves nothing half-done that looks whole."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ctxkit import yaml_core
from ctxkit.errors import CtxkitError, DiskError, ResumeError
from ctxkit.masking import mask

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

MAX_CHANGES_SHOWN = 10
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
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise CtxkitError(
                    f"another process is running in {self.path}", "wait for it, or choose another --run-dir"
                ) from None
            yield

    def holds(self, recipe: Mapping[str, Any], components: Mapping[str, str]) -> bool:
        """Return whether the recipe written here is this one; False for a new directory, or for other evals.

        Evals, descriptions and how often to log or save may change: they do not change what is trained. `components`
        holds the hash of the source of every component that the recipe trains with.

        Raises:
            ResumeError: what is trained changed; names each change.
        """
        file = self.path / "recipe.yaml"
        if not file.exists():
            if self.status() or any(self.path.glob("stages/*")):
                raise ResumeError(f"{self.path} holds another run, without its recipe", "choose another --run-dir")
            found = {path.name for path in self.path.glob("*")} - PREPARED
            # What begins with a dot or was never renamed, a kill left behind.
            strange = {name for name in found if not name.startswith(".") and ".tmp-" not in name}
            if strange:
                names = ", ".join(sorted(strange)[:MAX_CHANGES_SHOWN])
                raise ResumeError(f"{self.path} holds other files: {names}", "choose another --run-dir")
            return False
        old, wanted = _plain(yaml_core.parse(file.read_text(encoding="utf-8"), str(file))), _as_json(recipe)
        changes = [
            *_changes(_trained(old), _trained(wanted)),
            *_component_changes(self.status().get("components", {}), components),
        ]
        if changes:
            shown = changes[:MAX_CHANGES_SHOWN]
            more = [f"... and {len(changes) - len(shown)} more"] if len(changes) > len(shown) else []
            raise ResumeError(
                "\n  ".join([f"{self.path} holds a run of another recipe:", *shown, *more]),
                "undo the change to continue that run, or start a new one with --run-dir",
            )
        return bool(old == wanted)

    def claim(self, recipe: Mapping[str, Any], components: Mapping[str, str]) -> None:
        """Write the resolved recipe, unless the directory holds a run of another one; only under the lock.

        Raises:
            ResumeError: it does.
        """
        try:
            if self.holds(recipe, components):
                return
        except ResumeError:
            if self.begun or not (self.path / "recipe.yaml").exists():
                raise
            # Nothing is trained or measured yet: prepared data is known by its content, the tokenizer is made again.
            shutil.rmtree(self.tokenizer, ignore_errors=True)
        if self.status():
            # First: killed in between, the run must not look finished with evals that were not made.
            self.update(status="running")
        write_text(self.path / "recipe.yaml", yaml_core.dump(_as_json(recipe)))


FREE = frozenset(
    ("save_steps", "save_strategy", "save_total_limit", "logging_steps", "logging_strategy", "logging_first_step")
) | {"report_to", "run_name"}
"""Fields of SFTConfig that may change under a run: they decide what is written, not what is trained."""


@contextmanager
def waiting_lock(path: Path) -> Iterator[None]:
    """Hold a file for this process, once no other process holds it; for short work alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _as_json(recipe: Mapping[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(json.dumps(recipe))
    return values


def _trained(recipe: dict[str, Any]) -> dict[str, Any]:
    """Return what of a recipe decides on the trained weights, its stages by name."""
    stages = {}
    for stage in recipe["stages"]:
        train = {key: value for key, value in (stage["train"] or {}).items() if key not in FREE}
        stages[stage["name"]] = {**{key: stage[key] for key in stage if key != "evals"}, "train": train}
    order = {"order of stages": list(stages)}
    return {
        **{key: value for key, value in recipe.items() if key not in ("description", "sweep")},
        "stages": stages,
        **order,
    }


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all, secrets masked: to a temporary name, flushed to the disk, then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    # In JSON a backslash and its number is what a half character of a broken file name was read from.
    with temporary.open("w", encoding="utf-8", errors="backslashreplace") as file:
        file.write(mask(text))
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def write_json(path: Path, value: object) -> None:
    """Write a value as JSON, whole or not at all."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file, or an empty one where there is no file or a damaged one."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def write_sealed(path: Path, value: Mapping[str, Any]) -> None:
    """Write an object as JSON with a hash of itself, whole or not at all."""
    write_json(path, {**value, "seal": _seal(value)})


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


def _changes(old: Any, new: Any, path: str = "") -> list[str]:
    """Return each value that differs between two recipes as `path: old -> new`."""
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            change
            for key in {**old, **new}
            for change in _changes(old.get(key), new.get(key), f"{path}.{key}".lstrip("."))
        ]
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        pairs = enumerate(zip(old, new, strict=True))
        return [change for index, pair in pairs for change in _changes(*pair, f"{path}.{index}")]
    return [] if old == new else [f"{path}: {json.dumps(old)} -> {json.dumps(new)}"]


def _component_changes(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    changed = [name for name in new if name in old and old[name] != new[name]]
    # Components are named `slot:kind`, files by the key of the recipe that names them.
    return [f"the {'source code' if ':' in name else 'content'} of {name} changed" for name in changed]
