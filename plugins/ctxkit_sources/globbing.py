"""What a glob pattern matches: linear in what is there, whatever links lie about."""

from __future__ import annotations

import fnmatch
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

_MAGIC = re.compile(r"[*?[]")


@dataclass(frozen=True)
class Globber:
    """Expand patterns as `glob` does, but enter a folder below `**` once, however many links lead to it.

    A name that begins with a dot is matched only by a pattern that begins with one.
    """

    skipped: Callable[[str, str], None]
    """Told the path and why, for a folder that is not entered again."""
    unreadable: Callable[[Path, OSError], None]
    """Told of a folder that cannot be listed, and of what cannot be told to be one."""
    excluded: Collection[str] = ()
    """Folders, as they are named without links, that `**` does not enter."""

    def paths(self, pattern: str) -> Iterator[Path]:
        """Yield every path that a pattern matches, files or not; twice where there are two ways to match it."""
        segments = [segment for segment in pattern.split("/") if segment]
        if segments[-1:] == ["**"]:
            segments.append("*")
        yield from self._below(Path("/" if pattern.startswith("/") else ""), segments)

    def _below(self, base: Path, segments: list[str]) -> Iterator[Path]:
        if not segments:
            yield base
            return
        for path in self._step(base, segments[0]):
            yield from self._below(path, segments[1:])

    def _step(self, base: Path, segment: str) -> Iterator[Path]:
        """Yield what one segment of a pattern matches in a folder."""
        if segment == "**":
            yield from self._folders(base)
        elif _MAGIC.search(segment):
            names = fnmatch.filter(self._names(base), segment)
            yield from (base / name for name in names if segment[0] == "." or name[0] != ".")
        elif os.path.lexists(base / segment):
            yield base / segment

    def _folders(self, top: Path) -> Iterator[Path]:
        """Yield a folder and all below it, each once, those that only a link leads to last."""
        seen: set[str] = set()
        tops = [top]
        while tops:
            pending = [tops.pop(0)]
            while pending:
                folder = pending.pop()
                if not self._enters(folder, seen):
                    continue
                yield folder
                below = [path for path in self._visible(folder) if self._is_folder(path)]
                tops += [path for path in below if path.is_symlink()]
                pending += [path for path in reversed(below) if not path.is_symlink()]

    def _is_folder(self, path: Path) -> bool:
        try:
            return path.is_dir()
        except OSError as error:
            self.unreadable(path, error)
            return False

    def _enters(self, folder: Path, seen: set[str]) -> bool:
        real = os.path.realpath(folder)
        if real in seen:
            self.skipped(str(folder), "a link to a folder that is read already")
            return False
        seen.add(real)
        return real not in self.excluded

    def _visible(self, folder: Path) -> Iterator[Path]:
        return (folder / name for name in self._names(folder) if name[0] != ".")

    def _names(self, folder: Path) -> list[str]:
        try:
            return sorted(path.name for path in folder.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            self.unreadable(folder, error)
            return []
