"""Which files patterns mean: regular files, each once; links, pipes and whatever else is reported."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from ctxkit.errors import DataError
from ctxkit_sources.globbing import Globber

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

_SPECIAL = {
    stat.S_IFIFO: "a pipe, not a file",
    stat.S_IFSOCK: "a socket, not a file",
    stat.S_IFCHR: "a device, not a file",
    stat.S_IFBLK: "a device, not a file",
}


def unreported(path: str, reason: str) -> None:
    """Forget what was left out."""
    del path, reason


class Finder:
    """Find the regular files that patterns match. Folders that match are no files, and not worth a report."""

    def __init__(self, skipped: Callable[[str, str], None] = unreported, *, strict: bool = True) -> None:
        """Keep whom to tell, once, the path and reason of what is left out.

        Where `strict`, a folder or file that cannot be looked into is refused rather than told.
        """
        self._skipped = _once(skipped)
        self._strict = strict

    def find(self, patterns: Sequence[str], exclude: Sequence[str] = ()) -> list[str]:
        """Return the paths in their order; a folder that `exclude` matches leaves out all below it.

        Raises:
            DataError: a pattern matches no file, or a folder cannot be listed.
        """
        excluded = _expanded(exclude)
        globber = Globber(self._skipped, self._unreadable, excluded)
        matched = {path for pattern in patterns for path in self._files(pattern, globber)}
        real = _without_links(sorted(matched))
        if excluded:
            real = {path: target for path, target in real.items() if excluded.isdisjoint(_and_above(target))}
        # The files of a folder in a row, those of the folders in it after them: a folder is a group.
        return sorted(self._distinct(real), key=lambda path: (Path(path).parent, path))

    def _files(self, pattern: str, globber: Globber) -> list[Path]:
        kinds: Counter[str] = Counter()
        files = []
        for path in dict.fromkeys(globber.paths(pattern)):
            kind = self._kind(path)
            kinds[kind] += 1
            if kind == "file":
                files.append(path)
            elif kind != "folder":
                self._skipped(str(path), kind)
        if not files:
            raise DataError(f"no file matches {pattern}", _hint(pattern, kinds))
        return files

    def _distinct(self, real: Mapping[Path, str]) -> Iterator[str]:
        """Yield the paths less the links to files that are there without one."""
        names: dict[str, list[Path]] = {}
        for path, target in real.items():
            names.setdefault(target, []).append(path)
        for target, same in names.items():
            first, *others = sorted(same, key=lambda path: _plain(path) != target)
            yield str(first)
            for other in others:
                if _plain(other) != target:
                    self._skipped(str(other), "a link to a file that is read already")

    def _kind(self, path: Path) -> str:
        """Return `file`, `folder`, or why it is neither."""
        try:
            mode = path.stat().st_mode
        except OSError as error:
            if error.errno in {errno.ENOENT, errno.ELOOP}:
                return "a link that leads nowhere"
            if self._strict:
                raise _refused(path, error) from error
            return _reason(error)
        if stat.S_ISREG(mode):
            return "file"
        return "folder" if stat.S_ISDIR(mode) else _SPECIAL.get(stat.S_IFMT(mode), "not a regular file")

    def _unreadable(self, path: Path, error: OSError) -> None:
        if self._strict:
            raise _refused(path, error) from error
        self._skipped(str(path), _reason(error))


def stamp(paths: Iterable[str], named: Callable[[str], str] = str) -> str:
    """Return a hash of the names, sizes and times of change (nanoseconds) of files, in the order given."""
    digest = hashlib.sha256()
    for path in paths:
        try:
            status = Path(path).stat()
        except OSError as error:
            raise _refused(Path(path), error) from error
        digest.update(os.fsencode(f"{named(path)}\0{status.st_size}\0{status.st_mtime_ns}\n"))
    return digest.hexdigest()


def readable(path: str) -> str:
    """Return a path as text that can be written as UTF-8, which a file name need not be."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _once(skipped: Callable[[str, str], None]) -> Callable[[str, str], None]:
    """Return a function that passes each report on once, though several patterns find the same."""
    reported: set[tuple[str, str]] = set()

    def report(path: str, reason: str) -> None:
        if (path, reason) not in reported:
            reported.add((path, reason))
            skipped(path, reason)

    return report


def _expanded(patterns: Sequence[str]) -> frozenset[str]:
    """Return what patterns match, as it is named without links, whatever it is."""
    globber = Globber(unreported, lambda *_: None)
    return frozenset(os.path.realpath(path) for pattern in patterns for path in globber.paths(pattern))


def _without_links(paths: Iterable[Path]) -> dict[Path, str]:
    """Return each path with what `os.path.realpath` makes of it, which is asked once a folder."""
    folders: dict[Path, str] = {}
    real = {}
    for path in paths:
        if path.is_symlink():
            real[path] = os.path.realpath(path)
            continue
        if path.parent not in folders:
            folders[path.parent] = os.path.realpath(path.parent)
        real[path] = f"{folders[path.parent].rstrip('/')}/{path.name}"
    return real


def _plain(path: Path) -> str:
    return os.path.normpath(path.absolute())


def _and_above(path: str) -> list[str]:
    """Return a path and the folders it lies in."""
    return [path, *map(str, Path(path).parents)]


def _refused(path: Path, error: OSError) -> DataError:
    return DataError(f"{path} {_reason(error)}", "exclude it, or set `errors: skip`")


def _reason(error: OSError) -> str:
    return f"cannot be read: {error.strerror}"


def _hint(pattern: str, kinds: Counter[str]) -> str:
    """Return what to do where a pattern matches no file, by what it does match."""
    if kinds["folder"]:
        return f"it matches a folder; {pattern.rstrip('/')}/** matches the files in it"
    if kinds:
        return f"what it matches is {kinds.most_common(1)[0][0]}"
    above = pattern.removesuffix("/**")
    if above != pattern and any(Globber(unreported, lambda *_: None).paths(above)):
        return "the folder is there, and no file is in it"
    return "paths are relative to the working directory"


def at_home(path: str | Path) -> Path:
    """Return a path with `~` as the home of its user; as it is where there is no such user."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)
