"""A repository seen through an empty one, so that nothing it brings is ever run."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ctxkit.errors import DataError
from ctxkit_sources.git.clone import resolved
from ctxkit_sources.git.processes import Stream, environment, run, words
from ctxkit_sources.git.revisions import object_format

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ctxkit_sources.git.location import Location


@dataclass(frozen=True)
class Repository:
    """The objects of a repository and one of its commits, while it is open."""

    name: str
    commit: str
    """Object id."""
    scratch: Path
    """An empty bare repository that borrows the objects: git finds neither configuration, hooks nor attributes."""
    variables: Mapping[str, str]
    """The environment for git."""
    shallow: frozenset[str]
    """Commits whose parents a shallow clone has not got."""
    partial: bool
    """Whether it is a partial clone, which lacks objects that nobody fetches here."""

    def stream(self, *arguments: str, bulk: bool = False) -> Stream:
        """Start a git command on the objects, to be used in a `with` statement; `bulk` as for `Stream`."""
        task = f"git {arguments[0]} of {self.name}"
        return Stream(["--git-dir", str(self.scratch), *arguments], self.variables, task, bulk=bulk)


@contextmanager
def opened(source: str, revision: str = "HEAD", name: str | None = None) -> Iterator[Repository]:
    """Open a repository at a revision.

    Args:
        source: A folder, bare or not, or a URL, which is cloned once.
        revision: A branch, a tag, a commit.
        name: How documents call the repository; the last part of its path where None.

    Raises:
        DataError: see `resolved`.
    """
    location, commit = resolved(source, revision)
    with tempfile.TemporaryDirectory(prefix="ctxkit-git-") as folder:
        scratch = Path(folder) / "scratch.git"
        variables = environment({"GIT_ALTERNATE_OBJECT_DIRECTORIES": _quoted(location.objects)})
        _make(scratch, location, variables)
        yield Repository(
            name=name or location.name,
            commit=commit,
            scratch=scratch,
            variables=variables,
            shallow=_copied_shallow(location, scratch),
            partial=any(location.objects.glob("pack/*.promisor")),
        )


def _make(scratch: Path, location: Location, variables: Mapping[str, str]) -> None:
    made = run(
        ["init", "--bare", "--quiet", "--template=", f"--object-format={object_format(location)}", str(scratch)],
        variables,
    )
    if made.returncode:
        raise DataError(f"git cannot make a repository in {scratch.parent}: {words(made.stderr)}")


def _quoted(path: Path) -> str:
    """Return a path as an entry of a list that a colon would separate."""
    return '"' + str(path).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def _copied_shallow(location: Location, scratch: Path) -> frozenset[str]:
    """Let history end where a shallow clone ends, rather than at an object that is missing."""
    file = location.common / "shallow"
    if not file.is_file():
        return frozenset()
    shutil.copyfile(file, scratch / "shallow")
    return frozenset(file.read_text("ascii", "replace").split())
