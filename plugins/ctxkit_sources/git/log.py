"""A history as commits with their changes, from one `git log --raw`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from ctxkit_sources.git.names import readable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import IO

    from ctxkit_sources.git.processes import Stream
    from ctxkit_sources.git.repository import Repository

Merges: TypeAlias = Literal["skip", "first_parent"]
RENAME_LIMIT = 1000
"""Beyond so many files on either side git looks for exact renames alone (its own default, held fixed)."""
ID = "%H"
FORMAT = "%x01%H%n%P%n%an <%ae>%n%aI%n%s"
"""Begins with a byte that no raw entry begins with."""
FILES = frozenset({b"100644", b"100755", b"100664"})
"""Modes of regular files; the last stands in some very old histories."""
SPECIAL = {b"120000": "symlink", b"160000": "submodule"}


@dataclass(frozen=True, slots=True)
class Commit:
    """What is known of a commit."""

    id: str
    parents: int
    author: str
    """Name and e-mail address, to tell bots; not for documents."""
    date: str
    """Of the author, ISO 8601 with offset."""
    subject: str
    """First paragraph of the message in one line."""


class Change(NamedTuple):
    """One file of a commit, against the commit's (first) parent."""

    status: str
    """A, M, D, R or T, as git has them: added, modified, deleted, renamed, type changed."""
    similarity: int
    """Percent, of a rename."""
    old_mode: bytes
    mode: bytes
    old_blob: str
    blob: str
    old_path: bytes
    """Differs from `path` in a rename alone."""
    path: bytes


def start(repository: Repository, merges: Merges) -> Stream:
    """Start the command that `commits` reads, oldest commit first, parents before their children."""
    # Similarity needs contents, and a partial clone has not got all.
    renames = "-M100%" if repository.partial else f"-M -l{RENAME_LIMIT}"
    parents = ("--first-parent", "--diff-merges=first-parent") if merges == "first_parent" else ("--diff-merges=off",)
    return repository.stream(
        *("log", "--topo-order", "--reverse", "--raw", "-z", *renames.split(), "--no-abbrev", "--no-color", "--root"),
        *("--no-ext-diff", "--no-textconv", "--encoding=UTF-8", f"--format={FORMAT}", *parents),
        *("--end-of-options", repository.commit),
    )


def commits(stream: Stream) -> Iterator[tuple[Commit, Sequence[Change]]]:
    """Yield each commit with its changes; merges have none unless they are followed by their first parent.

    Raises:
        DataError: git failed, for instance on a broken repository.
    """
    commit: Commit | None = None
    changes: list[Change] = []
    tokens = _tokens(stream.output)
    for token in tokens:
        line = token.removeprefix(b"\n")
        if line.startswith(b"\x01"):
            if commit:
                yield commit, changes
            commit, changes = _commit(line), []
        elif line:
            changes.append(_change(line, tokens))
    stream.finish()
    if commit:
        yield commit, changes


def _tokens(output: IO[bytes]) -> Iterator[bytes]:
    """Yield what stands between NULs."""
    rest = b""
    while piece := output.read(1 << 18):
        *whole, rest = (rest + piece).split(b"\0")
        yield from whole
    yield rest


def _commit(header: bytes) -> Commit:
    id_, parents, author, date, subject = header[1:].decode("utf-8", "replace").split("\n", 4)
    return Commit(id_, len(parents.split()), author, date, readable(subject))


def _change(entry: bytes, tokens: Iterator[bytes]) -> Change:
    """Read `:<old mode> <mode> <old id> <id> <status>` and the one or two paths that follow."""
    old_mode, mode, old_blob, blob, status = entry[1:].split(b" ")
    letter = status[:1].decode()
    old_path = next(tokens)
    path = next(tokens) if letter == "R" else old_path
    return Change(letter, int(status[1:] or 0), old_mode, mode, old_blob.decode(), blob.decode(), old_path, path)
