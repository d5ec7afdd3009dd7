"""The contents before and after each change of a history, as fast as git gives them."""

from __future__ import annotations

from queue import SimpleQueue
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from ctxkit_sources.git import log
from ctxkit_sources.git.blobs import Ahead, OneByOne
from ctxkit_sources.git.names import readable
from ctxkit_sources.git.recent import KEPT_BYTES, Recent
from ctxkit_sources.git.repository import opened
from ctxkit_sources.git.texts import Texts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ctxkit_sources.git.blobs import Blob
    from ctxkit_sources.git.processes import Stream

Content: TypeAlias = "tuple[str | None, str]"
"""The text of one side of a change, None where the file is not there, and the reason why it is no text, if so."""


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
    """A change whose contents git was asked for: at least one, so that no more is underway than the pipes hold."""

    commit: str
    change: log.Change
    old: bool
    new: bool
    reserved: int
    """Under which number the content before it is kept; 0 where it was asked for."""


def text_changes(
    source: str,
    revision: str = "HEAD",
    *,
    merges: log.Merges = "skip",
    max_bytes: int = 1_000_000,
    skipped: Callable[[str, str], None] = _forgotten,
) -> Iterator[TextChange]:
    """Yield every change of a text file against the commit's parent, oldest commit first.

    Three processes and a thread, whatever the number of commits; what is held is the change at hand and, up to
    `KEPT_BYTES`, the texts that came last.

    Args:
        source: A folder or a URL.
        revision: The newest commit.
        merges: Leave them out, or follow the first parent and take a merge for a change of it.
        max_bytes: Size of the largest file.
        skipped: Told of each change that is left out, as `<commit>:<path>`, and why: binary, not UTF-8, too large.

    Raises:
        DataError: no repository, no such revision, or a broken repository.
    """
    asked: SimpleQueue[_Asked] = SimpleQueue()
    with (
        opened(source, revision) as repository,
        log.start(repository, merges) as stream,
        OneByOne(repository, max_bytes) as again,
    ):
        recent = Recent(Texts(max_bytes, "utf-8", "skip"), again, KEPT_BYTES)
        with Ahead(repository, _requests(stream, asked, recent), max_bytes) as blobs:
            answers = iter(blobs)
            for first in answers:
                item = asked.get()
                change, reason = _judged(item, *_sides(item, first, answers, recent))
                if reason:
                    skipped(f"{change.commit}:{change.path}", reason)
                else:
                    yield change


def _requests(stream: Stream, asked: SimpleQueue[_Asked], recent: Recent) -> Iterator[str]:
    """Yield the ids of the contents to read, and put down what they are for."""
    for commit, changes in log.commits(stream):
        for change in changes:
            old, new = change.old_mode in log.FILES, change.mode in log.FILES
            if change.old_blob == change.blob or not (old or new):
                continue
            reserved = recent.reserve(change.old_blob) if old and new else 0
            asked.put(_Asked(commit.id, change, old, new, reserved))
            if old and not reserved:
                yield change.old_blob
            if new:
                yield recent.expect(change.blob)


def _sides(item: _Asked, first: Blob, answers: Iterator[Blob], recent: Recent) -> tuple[Content, Content]:
    """Return the texts before and after a change, from the answers that are for it."""
    old: Content = (None, "")
    new: Content = (None, "")
    if item.reserved:
        old = recent.get(item.change.old_blob, item.reserved)
    elif item.old:
        old = recent.once(first)
    if item.new:
        asked_for = first if item.reserved or not item.old else next(answers)
        new = recent.put(item.change.blob, asked_for)
    return old, new


def _judged(item: _Asked, old: Content, new: Content) -> tuple[TextChange, str]:
    """Return a change, and the reason why it is none of text, if so."""
    path = readable(item.change.path)
    old_path = path if item.change.old_path is item.change.path else readable(item.change.old_path)
    return TextChange(item.commit, path, old_path, old[0], new[0]), old[1] or new[1]
