"""What a path means, and the options of the source that reads it."""

from __future__ import annotations

import glob
import re
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ValidationError

from ctxkit.errors import CtxkitError, DataError, ExitCode
from ctxkit.spec import Context, SourceOptions

if TYPE_CHECKING:
    from ctxkit.registry import Registry

MAX_BYTES = 10_000_000
"""The largest file of a folder that is read."""
PACKED = (".gz", ".bz2", ".xz", ".zst", ".lz4")
TABLES = {".jsonl": "json", ".ndjson": "json", ".json": "json", ".csv": "csv", ".parquet": "parquet", ".arrow": "arrow"}
"""Endings of files with a document a row, and the loader of each."""
COLUMNS = (
    {"text_column": "text"},
    {"messages_column": "messages"},
    {"text_column": "content"},
    {"text_column": "code"},
    {"text_column": "body"},
    {"messages_column": "conversations"},
)
"""Where rows commonly have their text; the first that holds any is taken."""
URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|[^/@:]+@[^/:]+:")


@dataclass(frozen=True)
class Target:
    """What is inspected."""

    path: str
    """As it was typed."""
    kind: Literal["git", "files", "hub"]
    """The source that reads it."""
    source: dict[str, Any]
    """Options of that source, as a recipe has them."""
    history: dict[str, Any] | None = None
    """Options of the source of its history, of a git repository."""
    commit: str = ""

    @property
    def shown(self) -> str:
        """The path, and what it is."""
        said = {"git": f"a git repository at {self.commit[:12]}", "files": "files", "hub": "rows"}
        return f"{self.path} ({said[self.kind]})"


def find(path: str, registry: Registry) -> Target:
    """Return what a path is: a git repository, a folder, a file with a document a row, or one that is a document.

    Raises:
        DataError: there is nothing, or it cannot be read as what it is.
        CtxkitError: no installed plugin brings the source that would read it.
    """
    try:
        return _found(path, registry)
    except PermissionError as error:
        raise DataError(f"{path} cannot be looked at: {error.strerror}", "whoever owns it can let you") from error
    except OSError as error:
        raise DataError(f"{path} cannot be looked at: {error.strerror}") from error
    except RuntimeError as error:
        raise DataError(f"{path} cannot be looked at: there is no such user", "name the folder in full") from error


def _found(path: str, registry: Registry) -> Target:
    place = Path(path).expanduser()
    if not place.exists() and not URL.match(path):
        said = "is a link that leads nowhere" if place.is_symlink() else "is not there"
        raise DataError(f"{path} {said}", "name a folder, a file, or a git repository by its folder or URL")
    if not place.exists() or (place / ".git").exists() or _is_bare(place):
        return _repository(path, registry)
    if place.is_dir():
        return _files(path, f"{glob.escape(str(place)).rstrip('/')}/**")
    ending = place.suffix if place.suffix not in PACKED else Path(place.stem).suffix
    if ending in TABLES:
        return Target(path, "hub", _table(glob.escape(str(place)), TABLES[ending], registry))
    return _files(path, glob.escape(str(place)))


def options(stated: dict[str, Any], registry: Registry) -> SourceOptions:
    """Return the options of a source, checked by whatever plugin brings it.

    Raises:
        CtxkitError: none does, or the options cannot be used.
    """
    kind = stated["kind"]
    cls = registry.components["source"].get(kind)
    if cls is None or not issubclass(cls, SourceOptions):
        raise CtxkitError(f"no installed plugin brings the source `{kind}`", "`ctxkit plugins` lists what is there")
    try:
        return cls.model_validate(stated, context=registry.context)
    except ValidationError as error:
        said = "; ".join(fault["msg"].removeprefix("Value error, ") for fault in error.errors())
        raise CtxkitError(f"{stated.get('path', kind)}: {said}", exit_code=ExitCode.DATA) from error


def _is_bare(place: Path) -> bool:
    return (place / "HEAD").is_file() and (place / "objects").is_dir()


def _repository(path: str, registry: Registry) -> Target:
    commit = options({"kind": "git", "path": path}, registry).fingerprint(Context())
    source = {"kind": "git", "path": path, "revision": commit}
    return Target(path, "git", source, {**source, "kind": "git_history"}, commit)


def _files(path: str, pattern: str) -> Target:
    return Target(path, "files", {"kind": "files", "paths": [pattern], "errors": "skip", "max_bytes": MAX_BYTES})


def _table(pattern: str, loader: str, registry: Registry) -> dict[str, Any]:
    """Return the options for the first column that holds a text.

    Raises:
        DataError: none does.
    """
    stated = {"kind": "hub", "path": loader, "data_files": pattern, "on_bad_row": "skip"}
    faults = []
    for columns in COLUMNS:
        tried = {**stated, **columns}
        try:
            if list(islice(options(tried, registry).build(Context()), 1)):
                return tried
        except DataError as error:
            faults.append(error)
    names = ", ".join(name for columns in COLUMNS for name in columns.values())
    said = faults[0].message if faults else f"{pattern} holds no text"
    raise DataError(said, f"looked for text in {names}; name another in a recipe, with `text_column`")
