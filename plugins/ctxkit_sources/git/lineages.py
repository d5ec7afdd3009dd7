"""Which versions belong to one file, followed through renames and over branches."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from ctxkit_sources.git.names import readable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ctxkit_sources.git.log import Commit


class Step(NamedTuple):
    """What a commit does to one chosen file."""

    change: str
    """added, modified, renamed or deleted."""
    path: bytes
    old_path: bytes
    """Differs from `path` where the file was renamed."""
    blob: str = ""
    """Object id; empty where deleted."""
    similarity: int = 0
    """Percent, where renamed."""


class Version(NamedTuple):
    """One step in the life of a file."""

    commit: Commit
    step: Step
    lineage: Lineage


@dataclass(slots=True, eq=False)
class Lineage:
    """A file through its renames; deleted and added again under the same name it goes on."""

    birth: str
    """`<commit>:<path>` of its first version."""
    path: bytes
    """Where it is now."""
    alive: bool = True
    versions: list[tuple[Commit, Step]] = field(default_factory=list)
    """Filled by whoever needs them all."""


class Lineages:
    """The lineages of a repository, told of each step in the order of the log.

    Branches come one after the other in a log, so a step may meet a file that another branch has already renamed or
    deleted. A name that a file once had still leads to it, until another file is added there.
    """

    def __init__(self) -> None:
        """Begin with nothing."""
        self._by_path: dict[bytes, Lineage] = {}

    def follow(self, commit: Commit, steps: Iterable[Step]) -> Iterator[Version]:
        """Yield each step with its lineage; deletions of what is already gone are left out."""
        for step in steps:
            if step.change == "deleted":
                yield from self._deleted(commit, step)
            elif step.change == "renamed":
                yield from self._renamed(commit, step)
            else:
                yield self._written(commit, step)

    def _deleted(self, commit: Commit, step: Step) -> Iterator[Version]:
        lineage = self._at(step.path)
        if lineage and lineage.alive:
            lineage.alive = False
            yield Version(commit, step, lineage)

    def _renamed(self, commit: Commit, step: Step) -> Iterator[Version]:
        old, new = self._by_path.get(step.old_path), self._at(step.path)
        if new and new.alive and new is not old:
            # Another branch has put a file there: that one goes on, and the one that was to replace it ends.
            yield from self._deleted(commit, Step("deleted", step.old_path, step.old_path))
            yield self._version(commit, step, new)
        elif old:
            yield self._version(commit, step, old)
        else:
            yield self._written(commit, step)

    def _written(self, commit: Commit, step: Step) -> Version:
        lineage = self._at(step.path) if step.change == "added" else self._by_path.get(step.path)
        return self._version(commit, step, lineage or Lineage(f"{commit.id}:{readable(step.path)}", step.path))

    def _version(self, commit: Commit, step: Step, lineage: Lineage) -> Version:
        lineage.path, lineage.alive = step.path, True
        self._by_path[step.path] = lineage
        return Version(commit, step, lineage)

    def _at(self, path: bytes) -> Lineage | None:
        """Return the lineage that is, or ended, under a name; not one that has moved on."""
        lineage = self._by_path.get(path)
        return lineage if lineage and lineage.path == path else None
