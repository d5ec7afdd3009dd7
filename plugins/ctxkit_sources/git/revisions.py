"""The commit that a revision names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ctxkit.errors import DataError
from ctxkit_sources.git.names import readable
from ctxkit_sources.git.processes import environment, run, words

if TYPE_CHECKING:
    from subprocess import CompletedProcess

    from ctxkit_sources.git.location import Location


class UnknownRevisionError(DataError):
    """A repository has no such commit."""


def check(revision: str) -> None:
    """Refuse what git would not read as the name of a commit: options, files of the index, control characters.

    Raises:
        DataError: with the reason.
    """
    if not revision or revision.startswith(("-", ":")) or any(ord(character) < 32 for character in revision):
        raise DataError(f"{readable(revision) or 'nothing'} is no revision", "such as HEAD, main, v1.0, or a commit")


def commit_of(location: Location, revision: str) -> str:
    """Return the object id of the commit that a revision names, in the repository's own object format.

    `rev-parse` runs nothing that a configuration names; this and `object_format` are all that ever read it.

    Raises:
        UnknownRevisionError: there is no such commit.
        DataError: the repository has no commits, or git cannot read it.
    """
    check(revision)
    asked = _ask(location, "--verify", "--end-of-options", f"{revision}^{{commit}}")
    commit = asked.stdout.decode().strip()
    # `^main` is verified too, as what is not to be listed.
    if asked.returncode == 0 and commit.isalnum():
        return commit
    # Asked only now: the usual case stays one process.
    object_format(location)
    if not run(
        ["--git-dir", str(location.git_dir), "for-each-ref", "--count=1", "--format=%(refname)"], environment()
    ).stdout:
        raise UnknownRevisionError(f"{location.shown} has no commits yet")
    hint = "see `git branch --all` and `git tag`; a shallow clone has only its newest commits"
    raise UnknownRevisionError(f"{location.shown} has no commit {readable(revision)}", hint)


def object_format(location: Location) -> str:
    """Return how objects are named: sha1 or sha256.

    Raises:
        DataError: git cannot read the repository.
    """
    asked = _ask(location, "--show-object-format")
    if asked.returncode:
        raise DataError(f"git cannot read {location.shown}: {words(asked.stderr)}")
    return asked.stdout.decode().strip()


def _ask(location: Location, *arguments: str) -> CompletedProcess[bytes]:
    return run(["--git-dir", str(location.git_dir), "rev-parse", *arguments], environment())
