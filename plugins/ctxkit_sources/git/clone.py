"""Clones of URLs, made once and kept in the person's cache."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from ctxkit.errors import DataError
from ctxkit_sources.git import location
from ctxkit_sources.git.processes import environment, run, words
from ctxkit_sources.git.revisions import UnknownRevisionError, check, commit_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ctxkit_sources.git.location import Location

SECONDS = 3600.0
"""Longest time for a clone or a fetch."""
OWN = ("GIT_ASKPASS", "GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_HTTP_", "GIT_PROXY_", "GIT_SSH", "GIT_SSL_")
"""Beginnings of the person's own variables that a connection may need."""
EVERYTHING = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")


def resolved(source: str, revision: str) -> tuple[Location, str]:
    """Find a repository, or clone it, and the commit that a revision names.

    A URL is cloned once and not fetched again, so that the same recipe gives the same documents, unless the revision
    is not in the clone. Remove its folder from `$XDG_CACHE_HOME/ctxkit/git` to follow a branch that has moved.

    Args:
        source: A folder, or a URL.
        revision: As git writes it: a branch, a tag, a commit.

    Raises:
        DataError: not a repository, not reachable, not allowed, or without that revision.
    """
    location.check(source)
    check(revision)
    if not location.is_url(source):
        place = location.found(Path(source), source)
        return place, commit_of(place, revision)
    place = location.found(_kept(source), source)
    try:
        return place, commit_of(place, revision)
    except UnknownRevisionError:
        _connect(
            [
                "--git-dir",
                str(place.git_dir),
                "fetch",
                "--no-write-fetch-head",
                "--end-of-options",
                source,
                *EVERYTHING,
            ],
            source,
        )
        return place, commit_of(place, revision)


def _kept(url: str) -> Path:
    """Return the folder of the clone, which is whole where it exists."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ctxkit" / "git"
    folder = cache / location.key(url)
    if not folder.is_dir():
        cache.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryDirectory(dir=cache, prefix=".new-", ignore_cleanup_errors=True) as parent:
            _move(_cloned(url, Path(parent) / "clone"), folder)
    return folder


def _cloned(url: str, folder: Path) -> Path:
    bare = ["clone", "--bare", "--quiet", "--template=", "--origin=origin", "--no-recurse-submodules"]
    _connect([*bare, "--end-of-options", url, str(folder)], url)
    # The address stands there with its credentials, and nothing needs it.
    run(["config", "--file", str(folder / "config"), "--remove-section", "remote.origin"], environment())
    return folder


def _move(new: Path, folder: Path) -> None:
    try:
        new.rename(folder)
    except OSError:
        # Another process was quicker; its clone is as good.
        if not folder.is_dir():
            raise
        shutil.rmtree(new)


def _connect(arguments: Sequence[str], url: str) -> None:
    """Run what speaks to another machine; the person's own configuration counts here: proxies, keys, certificates."""
    own = {name: value for name, value in os.environ.items() if name.startswith(OWN)}
    variables = {**environment({"GIT_ALLOW_PROTOCOL": ":".join(location.SCHEMES)}), **own}
    for name in {"GIT_CONFIG_GLOBAL", "GIT_CONFIG_NOSYSTEM"} - own.keys():
        del variables[name]
    done = run(["-c", "core.logAllRefUpdates=false", *arguments], variables, SECONDS)
    if done.returncode:
        said = location.redacted(words(done.stderr), url)
        raise DataError(f"{location.shown(url)} cannot be cloned or fetched: {said}", "try `git ls-remote` on it")
