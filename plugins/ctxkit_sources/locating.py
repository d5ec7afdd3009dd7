"""What the `path` of a dataset means: a loader with files, a local folder, or a name on the hub; never guessed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

from ctxkit.errors import DataError
from ctxkit_sources.matching import Finder, at_home, unreported

if TYPE_CHECKING:
    from pathlib import Path

LOADERS = ("arrow", "csv", "json", "parquet", "text")
"""The loaders whose local files are read here, by the names that datasets gives them."""
_ENDINGS = {
    **dict.fromkeys((".json", ".jsonl", ".ndjson"), "json"),
    **dict.fromkeys((".csv", ".tsv"), "csv"),
    **dict.fromkeys((".txt", ".text", ".md"), "text"),
    ".parquet": "parquet",
    ".arrow": "arrow",
}
_PACKED = (".gz", ".bz2", ".xz", ".zst", ".lz4")
_HUB_NAME = re.compile(r"\w[\w.-]*/[\w.-]+")
DataFiles: TypeAlias = str | Sequence[str] | Mapping[str, str | Sequence[str]] | None
Splits: TypeAlias = dict[str, list[str]]


def is_folder(path: str) -> bool:
    """Return whether a path is written as that of a folder: `./x`, `../x`, `/x`, `~/x`."""
    return path.startswith((".", "/", "~"))


def check_path(path: str) -> None:
    """Refuse a file, or a pattern of files, where a loader, a folder or a name on the hub belongs.

    Raises:
        ValueError: with what to write instead.
    """
    place = at_home(path)
    loader = _loader(place)
    try:
        is_file, is_dir = place.is_file(), place.is_dir()
    except OSError:
        return  # a name too long, or a folder that may not be entered: reading it will say so
    # What bears the name of a dataset is one, though a file be called so.
    is_there = is_file and (loader or is_folder(path))
    if is_there or (loader and not is_dir and not _HUB_NAME.fullmatch(path)):
        chosen = f"`path: {loader}`" if loader else f"`path:` one of {', '.join(LOADERS)}"
        raise ValueError(f"{path} names a file; write {chosen} with `data_files: {path}`")


def _loader(place: Path) -> str:
    """Return the loader for a file by its ending, packed or not; an empty text where the ending says nothing."""
    return _ENDINGS.get(place.with_suffix("").suffix if place.suffix in _PACKED else place.suffix, "")


def by_split(data_files: DataFiles) -> dict[str, list[str]]:
    """Return the patterns of each split; `train` where no split is named."""
    named = data_files if isinstance(data_files, Mapping) else {"train": data_files or ()}
    return {split: [said] if isinstance(said, str) else list(said) for split, said in named.items()}


def is_remote(data_files: DataFiles) -> bool:
    """Return whether any of the files is an address, or lies within another one."""
    patterns = (pattern for patterns in by_split(data_files).values() for pattern in patterns)
    return any("://" in pattern or "::" in pattern for pattern in patterns)


def local_files(data_files: DataFiles, skipped: Callable[[str, str], None] = unreported) -> Splits:
    """Return the local files of each split, in the order in which their patterns are written.

    What matches and is no file goes to `skipped`.

    Raises:
        DataError: a pattern matches no file.
    """
    finder = Finder(skipped)
    return {
        split: list(dict.fromkeys(path for pattern in patterns for path in finder.find([_pattern(pattern)])))
        for split, patterns in by_split(data_files).items()
    }


def folder_files(path: str, name: str | None, data_files: DataFiles) -> tuple[str, Splits]:
    """Return the loader and the files of each split of a local folder, as datasets finds them there.

    A folder that `save_to_disk` wrote counts as Arrow files. The loader may be one that is not read here.

    Raises:
        DataError: it is no folder, or datasets finds nothing in it.
    """
    folder = at_home(path)
    if not folder.is_dir():
        hint = "for files: path: json, csv, parquet, text or arrow, and data_files: the files"
        raise DataError(f"{path} is {'a file' if folder.exists() else 'not there'}, not a folder", hint)
    saved = _saved(folder)
    return ("arrow", saved) if saved else _found(folder, name, data_files)


def _found(folder: Path, name: str | None, data_files: DataFiles) -> tuple[str, Splits]:
    from datasets import load_dataset_builder

    patterns = by_split(data_files) if data_files else None
    try:
        builder = load_dataset_builder(str(folder), name=name, data_files=patterns)
    except (OSError, ValueError) as error:
        raise DataError(f"the folder {folder} cannot be loaded: {' '.join(str(error).split())}") from error
    files = {str(split): list(map(str, paths)) for split, paths in (builder.config.data_files or {}).items()}
    return type(builder).__module__.rpartition(".")[2], files


def _saved(folder: Path) -> Splits:
    """Return the files of each split of a folder that `save_to_disk` wrote; nothing for another one."""
    if (folder / "dataset_dict.json").is_file():
        names = json.loads((folder / "dataset_dict.json").read_text())["splits"]
        return {name: _shards(folder / name) for name in names}
    return {"train": _shards(folder)} if (folder / "state.json").is_file() else {}


def _shards(folder: Path) -> list[str]:
    state = json.loads((folder / "state.json").read_text())
    return [str(folder / file["filename"]) for file in state["_data_files"]]


def _pattern(pattern: str) -> str:
    """Return a pattern with `~` as the home of its user, and not changed otherwise."""
    return str(at_home(pattern)) if pattern.startswith("~") else pattern
