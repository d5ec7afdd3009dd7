"""Where a repository is: a folder as a person names it, or the parts of a URL that may be shown."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from ctxkit.errors import DataError
from ctxkit_sources.git.names import readable
from ctxkit_sources.git.processes import environment, run
from ctxkit_sources.matching import at_home

SCHEMES = ("https", "http", "ssh", "git", "file")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_HELPER = re.compile(r"[A-Za-z0-9+._-]*::")
_SCP = re.compile(r"[^/@:]+@([^/:]+):")
_QUERY = re.compile(r"[?#][^\s']*")
_SECRET = re.compile(r"(?<=//)[^/\s]*@")


@dataclass(frozen=True)
class Location:
    """The folders of a repository that were looked up without asking git."""

    git_dir: Path
    """What `--git-dir` takes; of a worktree, its own."""
    common: Path
    """What all worktrees share: objects, refs, the list where a shallow clone ends."""
    shown: str
    """How messages call it, without credentials."""
    name: str
    """The last part of its path."""

    @property
    def objects(self) -> Path:
        """The folder of its objects."""
        return self.common / "objects"


def check(source: str) -> None:
    """Refuse what could make git run a program: options, transport helpers, schemes that are not needed.

    Raises:
        DataError: with the reason.
    """
    if source.startswith("-") or any(ord(character) < 32 for character in source):
        raise DataError(f"{readable(source)} is no path or URL of a repository", "write ./-name for such a folder")
    if _HELPER.match(source):
        raise DataError(f"{_cut(source, '::')}:: names a program that git would run", f"allowed: {_allowed()}")
    scheme = _SCHEME.match(source)
    if scheme and scheme[1].lower() not in SCHEMES:
        raise DataError(f"repositories are not read over {scheme[1]}://", f"allowed: {_allowed()}")
    if is_url(source) and _host(source).startswith("-"):
        raise DataError(f"{shown(source)} has a host that reads like an option")


def is_url(source: str) -> bool:
    """Tell a URL, `user@host:path` included, from a folder."""
    return bool(_SCHEME.match(source)) or bool(_SCP.match(source) and not Path(source).exists())


def shown(source: str) -> str:
    """Return a path or URL without user, password and query, as messages may show it."""
    if not _SCHEME.match(source):
        return readable(source)
    return readable(_QUERY.sub("", _SECRET.sub("", source)))


def redacted(text: str, source: str) -> str:
    """Return what git said about a repository without the credentials of its URL."""
    return _QUERY.sub("", _SECRET.sub("", text.replace(source, shown(source))))


def named(source: str) -> str:
    """Return the name of a repository: the last part of its path, without `.git`."""
    path = re.split("[/:]", shown(source)) if is_url(source) else at_home(source).absolute().parts
    parts = [part for part in path if part not in {"", "/", ".git"}]
    return readable(parts[-1].removesuffix(".git")) if parts else "repository"


def key(url: str) -> str:
    """Return the name under which the clone of a URL is kept; the same whatever the credentials."""
    return f"{named(url)[:40]}-{hashlib.sha256(shown(url).encode()).hexdigest()[:20]}"


def found(folder: Path, called: str) -> Location:
    """Find the repository in a folder: bare, or with a `.git` that is a folder or a file that names one.

    Args:
        folder: Where to look; its parents are not searched.
        called: What the person wrote.

    Raises:
        DataError: there is none, or it belongs to someone else.
    """
    git_dir = _git_dir(at_home(folder).absolute())
    if git_dir is None:
        raise DataError(f"{shown(called)} is not a git repository", "name the folder that holds .git, or a bare one")
    common = _common(git_dir)
    _check_owner((at_home(folder), git_dir, common), shown(called))
    return Location(git_dir, common, shown(called), named(called))


def _allowed() -> str:
    return f"a folder, {', '.join(f'{scheme}://' for scheme in SCHEMES)}, or user@host:path"


def _cut(text: str, separator: str) -> str:
    return readable(text.partition(separator)[0])


def _host(url: str) -> str:
    scp = None if _SCHEME.match(url) else _SCP.match(url)
    if scp:
        return scp[1]
    try:
        return urlsplit(url).netloc.rpartition("@")[2]
    except ValueError as error:
        raise DataError(f"{shown(url)} is no URL: {error}") from error


def _git_dir(folder: Path) -> Path | None:
    inner = folder / ".git"
    if inner.is_file():
        inner = folder / _named_by(inner, "gitdir: ")
    return next((path for path in (inner, folder) if _is_git_dir(path)), None)


def _is_git_dir(path: Path) -> bool:
    return os.path.lexists(path / "HEAD") and (_common(path) / "objects").is_dir()


def _common(git_dir: Path) -> Path:
    file = git_dir / "commondir"
    return git_dir / _named_by(file, "") if file.is_file() else git_dir


def _named_by(file: Path, prefix: str) -> str:
    """Return the path written in a small file, as worktrees and submodules have it."""
    with file.open("rb") as opened:
        return os.fsdecode(opened.read(4096)).removeprefix(prefix).rstrip("\n")


def _check_owner(paths: tuple[Path, ...], called: str) -> None:
    """Refuse a repository of another user, as git does by itself only where it looks for the repository."""
    foreign = {path.stat().st_uid for path in paths} - _own_users()
    if foreign and not _is_safe(paths[0]):
        hint = f"if you trust it: git config --global --add safe.directory {paths[0].resolve()}"
        raise DataError(f"{called} belongs to another user (number {min(foreign)})", hint)


def _own_users() -> set[int]:
    """Return the numbers of the users that this process acts for; `sudo` says who called it."""
    user, caller = os.geteuid(), os.environ.get("SUDO_UID", "")
    return {user, int(caller)} if user == 0 and caller.isdigit() else {user}


def _is_safe(folder: Path) -> bool:
    """Ask the person's own configuration whether a folder is to be trusted."""
    own = {name: value for name, value in environment().items() if name != "GIT_CONFIG_GLOBAL"}
    listed = run(["config", "--global", "--null", "--get-all", "safe.directory"], own).stdout.split(b"\0")
    return bool({b"*", os.fsencode(folder.resolve())} & set(listed))
