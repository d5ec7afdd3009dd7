"""The text files of a repository at one revision."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from ctxkit.errors import DataError
from ctxkit.spec import Document
from ctxkit_sources.git.blobs import Ahead
from ctxkit_sources.git.log import FILES, SPECIAL
from ctxkit_sources.git.names import readable
from ctxkit_sources.git.repository import opened

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ctxkit_sources.git.globs import Globs
    from ctxkit_sources.git.repository import Repository
    from ctxkit_sources.git.texts import Texts


class Entry(NamedTuple):
    """A regular file of a tree."""

    path: bytes
    blob: str


@dataclass(frozen=True)
class GitFiles:
    """One document a file, in the order of git's trees: by path, byte by byte."""

    source: str
    revision: str
    name: str | None
    globs: Globs
    texts: Texts
    skipped: Callable[[str, str], None]

    def __iter__(self) -> Iterator[Document]:
        """Yield the documents, with line ends as newlines and no byte order mark, as the source `files` does.

        Raises:
            DataError: no repository, no such revision, no file included, or a broken repository.
        """
        with opened(self.source, self.revision, self.name) as repository:
            entries = self._entries(repository)
            with Ahead(repository, (entry.blob for entry in entries), self.texts.max_bytes) as blobs:
                order = 0
                for entry, blob in zip(entries, blobs, strict=True):
                    id_ = f"{repository.name}/{readable(entry.path)}"
                    text, reason = self.texts.read(blob, id_)
                    if reason:
                        self.skipped(id_, reason)
                        continue
                    yield Document(_plain(text), id_, repository.name, order, _metadata(repository, entry))
                    order += 1

    def _entries(self, repository: Repository) -> list[Entry]:
        entries, included = [], False
        for mode, blob, path in _listed(repository):
            if not self.globs.matches(path):
                continue
            included = True
            if mode in FILES:
                entries.append(Entry(path, blob))
            else:
                self.skipped(f"{repository.name}/{readable(path)}", SPECIAL.get(mode, "no regular file"))
        if not included:
            hint = "patterns are relative to the root of the repository; `**/*.py` finds a name in every folder"
            raise DataError(f"no file of {repository.name} at {repository.commit[:12]} is included", hint)
        return entries


def _listed(repository: Repository) -> Iterator[tuple[bytes, str, bytes]]:
    """Yield mode, object id and path of each entry."""
    with repository.stream("ls-tree", "-r", "-z", "--end-of-options", repository.commit) as stream:
        for line in stream.output.read().split(b"\0")[:-1]:
            head, _, path = line.partition(b"\t")
            mode, _, blob = head.split(b" ")
            yield mode, blob.decode(), path
        stream.finish()


def _plain(text: str) -> str:
    return io.IncrementalNewlineDecoder(None, translate=True).decode(text, final=True).removeprefix("\ufeff")


def _metadata(repository: Repository, entry: Entry) -> dict[str, str | int | float]:
    return {"repository": repository.name, "path": readable(entry.path), "commit": repository.commit}
