"""The contents before and after each change of a history, as fast as git gives them."""

from __future__ import annotations

from queue import SimpleQueue
from typing import TYPE_CHECKING, NamedTuple

from ctxkit_sources.git import log
from ctxkit_sources.git.blobs import Ahead
from ctxkit_sources.git.names import readable
from ctxkit_sources.git.repository import opened
from ctxkit_sources.git.texts import Texts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ctxkit_sources.git.blobs import Blob
    from ctxkit_sources.git.processes import Stream


class TextChange(NamedTuple):
    """A change of one text file."""

    commit: str
    """Object id."""
    path: str
    old_path: str
    """Differs from `path` where the file was renamed."""
    old_text: str | None
    """None where the file is new."""
    new_text: str | None
    """None where the file is deleted."""


def _forgotten(id_: str, reason: str) -> None:
    del id_, reason


class _Asked(NamedTuple):
    commit: str
    change: log.Change
    old: bool
    new: bool


def text_changes(
    source: str,
    revision: str = "HEAD",
    *,
    merges: log.Merges = "skip",
    max_bytes: int = 1_000_000,
    skipped: Callable[[str, str], None] = _forgotten,
) -> Iterator[TextChange]:
    """Yield every change of a text file against the commit's parent, oldest commit first.

    Two processes and a thread, whatever the number of commits; nothing is held but the change at hand.

    Args:
        source: A folder or a URL.
        revision: The newest commit.
        merges: Leave them out, or follow the first parent and take a merge for a change of it.
        max_bytes: Size of the largest file.
        skipped: Told of each change that is left out, as `<commit>:<path>`, and why: binary, not UTF-8, too large.

    Raises:
        DataError: no repository, no such revision, or a broken repository.
    """
    texts = Texts(max_bytes, "utf-8", "skip")
    asked: SimpleQueue[_Asked] = SimpleQueue()
    with (
        opened(source, revision) as repository,
        log.start(repository, merges) as stream,
        Ahead(repository, _requests(stream, asked), max_bytes) as blobs,
    ):
        answers = iter(blobs)
        for first in answers:
            item = asked.get()
            second = next(answers) if item.old and item.new else first
            change, reason = _judged(item, first, second, texts)
            if reason:
                skipped(f"{change.commit}:{change.path}", reason)
            else:
                yield change


def _requests(stream: Stream, asked: SimpleQueue[_Asked]) -> Iterator[str]:
    """Yield the ids of the contents to read, and put down what they are for."""
    for commit, changes in log.commits(stream):
        for change in changes:
            old, new = change.old_mode in log.FILES, change.mode in log.FILES
            if change.old_blob == change.blob or not (old or new):
                continue
            asked.put(_Asked(commit.id, change, old, new))
            if old:
                yield change.old_blob
            if new:
                yield change.blob


def _judged(item: _Asked, first: Blob, second: Blob, texts: Texts) -> tuple[TextChange, str]:
    """Return a change, and the reason why it is none of text, if so."""
    old, old_reason = texts.read(first, item.commit) if item.old else (None, "")
    new, new_reason = texts.read(second, item.commit) if item.new else (None, "")
    paths = readable(item.change.path), readable(item.change.old_path)
    return TextChange(item.commit, *paths, old, new), old_reason or new_reason
