"""Which commits and files of a history are used."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ctxkit.spec import BY_RULE
from ctxkit_sources.git import log
from ctxkit_sources.git.lineages import Lineages, Step
from ctxkit_sources.git.names import readable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ctxkit_sources.git.globs import Globs
    from ctxkit_sources.git.lineages import Version
    from ctxkit_sources.git.log import Change, Commit
    from ctxkit_sources.git.repository import Repository

WORDS = {"A": "added", "M": "modified", "T": "modified", "R": "renamed"}


@dataclass(frozen=True)
class Selection:
    """The rules, and who is told what they leave out."""

    globs: Globs
    merges: log.Merges
    exclude_authors: Sequence[str]
    """Regular expressions, found in `name <address>` whatever the case."""
    skipped: Callable[[str, str], None]

    def read(self, repository: Repository) -> Iterator[tuple[Commit, list[Version]]]:
        """Yield the commits that are used, oldest first, with the versions of the files that are.

        Raises:
            DataError: git failed.
        """
        if repository.partial:
            self.skipped(repository.commit, f"{BY_RULE}renames with changes: partial clone")
        lineages = Lineages()
        with log.start(repository, self.merges) as stream:
            for commit, changes in log.commits(stream):
                if commit.id in repository.shallow:
                    self.skipped(commit.id, "history before it: shallow clone")
                reason = self._left_out(commit)
                # A rename is followed even where the commit is not used.
                versions = list(lineages.follow(commit, self._steps(commit, changes, silent=bool(reason))))
                if reason:
                    self.skipped(commit.id, reason)
                else:
                    yield commit, versions

    def _left_out(self, commit: Commit) -> str:
        if commit.parents > 1 and self.merges == "skip":
            return f"{BY_RULE}merge"
        found = any(re.search(pattern, commit.author, re.IGNORECASE) for pattern in self.exclude_authors)
        return f"{BY_RULE}excluded author" if found else ""

    def _steps(self, commit: Commit, changes: Sequence[Change], *, silent: bool) -> Iterator[Step]:
        for change in changes:
            special = log.SPECIAL.get(change.mode)
            if special and not silent and self.globs.matches(change.path):
                self.skipped(f"{commit.id}:{readable(change.path)}", special)
            step = self._step(change)
            if step:
                yield step

    def _step(self, change: Change) -> Step | None:
        """Return what a change does among the chosen regular files: a file moved out of them is deleted there."""
        before = change.old_mode in log.FILES and self.globs.matches(change.old_path)
        after = change.mode in log.FILES and self.globs.matches(change.path)
        if not after:
            return Step("deleted", change.old_path, change.old_path) if before else None
        if not before:
            return Step("added", change.path, change.path, change.blob)
        return Step(WORDS[change.status], change.path, change.old_path, change.blob, change.similarity)
