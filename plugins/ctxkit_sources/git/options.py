"""The options of the git sources."""

from __future__ import annotations

import codecs
import re
from typing import TYPE_CHECKING, Literal

from pydantic import Field, PositiveInt, field_validator

from ctxkit.errors import DataError
from ctxkit.spec import Context, Document, SourceOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

BOTS = (
    r"\[bot\]",
    r"\b(dependabot|renovate|greenkeeper|pyup-bot|snyk-bot|pre-commit-ci|github-actions|allcontributors)\b",
)
"""Accounts that hosting services mark as bots, and common ones that are older than the mark."""


class _RepositoryOptions(SourceOptions):
    """What both sources ask."""

    path: str = Field(min_length=1)
    """Folder of a repository (bare, a worktree or a submodule too), or a URL: https, http, ssh, git, file, or
    `user@host:path`. A URL is cloned once into the cache and not fetched again, unless `revision` is missing there."""
    revision: str = "HEAD"
    """Branch, tag or commit; a commit for the same documents tomorrow."""
    name: str | None = None
    """What ids and metadata call the repository; the last part of its path unless stated."""
    include: tuple[str, ...] = Field(default=("**",), min_length=1)
    """Glob patterns on paths from the root of the repository; `**` crosses folders, and the plain name of a folder
    includes all below it."""
    exclude: tuple[str, ...] = ()
    """Patterns of files and folders to leave out."""
    max_bytes: PositiveInt = 1_000_000
    """Size of the largest file in bytes; larger ones are left out."""
    encoding: str = "utf-8"
    """How bytes become text."""
    errors: Literal["strict", "skip", "replace"] = "skip"
    """What to do with a file that has other bytes: stop and name it, leave it out, or put U+FFFD in their place."""

    @field_validator("path")
    @classmethod
    def _allowed(cls, path: str) -> str:
        from ctxkit_sources.git.location import check

        return _checked(check, path)

    @field_validator("revision")
    @classmethod
    def _commit(cls, revision: str) -> str:
        from ctxkit_sources.git.revisions import check

        return _checked(check, revision)

    @field_validator("encoding")
    @classmethod
    def _known(cls, encoding: str) -> str:
        try:
            codecs.lookup(encoding)
        except LookupError:
            raise ValueError(f"Python knows no encoding {encoding}; such as utf-8, latin-1, utf-16") from None
        return encoding

    def uses_seed(self) -> bool:
        """Return False: the commit decides."""
        return False

    def fingerprint(self, context: Context) -> str:
        """Return the object id of the commit that `revision` names now.

        Raises:
            DataError: no repository, or no such revision.
        """
        from ctxkit_sources.git.clone import resolved

        return resolved(self.path, self.revision)[1]


class GitOptions(_RepositoryOptions):
    """The text files of a git repository at one revision, one document a file; nothing of it is checked out or run."""

    kind: Literal["git"]

    def build(self, context: Context) -> Iterable[Document]:
        """Return the documents, read as they are asked for."""
        from ctxkit_sources.git.files import GitFiles
        from ctxkit_sources.git.globs import Globs
        from ctxkit_sources.git.texts import Texts

        return GitFiles(
            source=self.path,
            revision=self.revision,
            name=self.name,
            globs=Globs(self.include, self.exclude),
            texts=Texts(self.max_bytes, self.encoding, self.errors),
            skipped=context.skipped,
        )


class GitHistoryOptions(_RepositoryOptions):
    """The history of a git repository as chains of versions, oldest first: of each file, or of the whole repository.

    A partial clone, such as one with `--filter=blob:none`, lacks the contents that would tell which files are similar:
    of its renames only those are followed that change nothing, and versions that it lacks are left out and counted.
    """

    kind: Literal["git_history"]
    form: Literal["diffs", "versions"] = "diffs"
    """`diffs`: the first version in full, then what changes from each version of the chain to the next, as git writes
    it. `versions`: every version in full."""
    chain: Literal["file", "repository"] = "file"
    """`file`: a chain for each file, followed through renames. `repository`: one chain, in which a document holds all
    that a commit changes (with `versions`, a document for each file of it)."""
    merges: Literal["skip", "first_parent"] = "skip"
    """`skip`: merge commits are left out, the commits they bring are not. `first_parent`: only the main line, on which
    a merge is one commit with all it brings."""
    exclude_authors: tuple[str, ...] = BOTS
    """Regular expressions, found in `name <address>` of an author whatever the case; such commits are left out. Bots
    unless stated."""
    min_versions: PositiveInt = 2
    """Fewest documents in a chain; shorter chains are left out."""

    @field_validator("exclude_authors")
    @classmethod
    def _compiled(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in patterns:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{pattern} is no regular expression: {error}") from None
        return patterns

    def fingerprint(self, context: Context) -> str:
        """Return the commit that `revision` names now; of a partial clone also the packs that it has so far.

        Raises:
            DataError: no repository, or no such revision.
        """
        from ctxkit_sources.git.clone import resolved

        location, commit = resolved(self.path, self.revision)
        return " ".join([commit, *sorted(path.name for path in location.objects.glob("pack/*.promisor"))])

    def build(self, context: Context) -> Iterable[Document]:
        """Return the documents, read as they are asked for."""
        from ctxkit_sources.git.globs import Globs
        from ctxkit_sources.git.history import FileChains, RepositoryChain
        from ctxkit_sources.git.selection import Selection
        from ctxkit_sources.git.texts import Texts

        globs = Globs(self.include, self.exclude)
        selection = Selection(globs, self.merges, self.exclude_authors, context.skipped)
        chains = FileChains if self.chain == "file" else RepositoryChain
        return chains(
            source=self.path,
            revision=self.revision,
            name=self.name,
            selection=selection,
            texts=Texts(self.max_bytes, self.encoding, self.errors),
            form=self.form,
            min_versions=self.min_versions,
        )


def _checked(check: Callable[[str], None], text: str) -> str:
    """Return what passes a check; a recipe shows the place of a ValueError."""
    try:
        check(text)
    except DataError as error:
        raise ValueError(str(error).replace("\n", "; ")) from None
    return text
