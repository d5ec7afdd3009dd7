"""Datasets: local files read row by row, and everything else by datasets' own loaders."""

from __future__ import annotations

import glob
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ctxkit.errors import DataError
from ctxkit_sources.loading import Loading
from ctxkit_sources.local import LocalFiles
from ctxkit_sources.locating import LOADERS, DataFiles, by_split, folder_files, is_folder, is_remote, local_files
from ctxkit_sources.matching import Finder, at_home, stamp, unreported
from ctxkit_sources.outcomes import EMPTY, NO_COLUMN, NO_ROWS, Columns, Outcome
from ctxkit_sources.rows import Reading, Row, SampleBy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ctxkit.spec import Document
    from ctxkit_sources.decoding import Newlines


@dataclass(frozen=True)
class Hub:
    """Read one document a row."""

    path: str
    """A loader with `data_files`, a folder written as a path (`./x`), or else a name on the hub."""
    split: str = "train"
    data_files: DataFiles = None
    name: str | None = None
    revision: str | None = None
    text_column: str | None = "text"
    messages_column: str | None = None
    id_column: str | None = None
    metadata_columns: tuple[str, ...] = ()
    sample_by: SampleBy = "document"
    newlines: Newlines = "normalise"
    max_bytes: int | None = None
    on_bad_row: Literal["fail", "skip"] = "fail"
    streaming: bool = False
    seed: int | None = None
    """Of the order; as stored where None."""
    buffer_size: int = 1000
    """Rows among which a streamed order draws."""
    skipped: Callable[[str, str], None] = unreported
    """Told the id and why, for every row that is left out."""

    def __iter__(self) -> Iterator[Document]:
        """Yield the documents.

        Raises:
            DataError: the dataset cannot be loaded, has no rows, lacks a column, or holds a row that is no text.
        """
        rows, lacking, last = 0, 0, ""
        for outcome in self._outcomes():
            rows += outcome.reason != NO_ROWS
            lacking += outcome.reason.startswith(NO_COLUMN)
            last = outcome.detail
            if outcome.reason:
                self._leave_out(outcome)
            else:
                yield outcome.document()
        if not rows:
            raise DataError(f"there are no rows in {self._loading().called}", "check the files, and the split")
        if lacking == rows:
            raise DataError(last, "no other row has that column either")

    def _leave_out(self, outcome: Outcome) -> None:
        if self.on_bad_row == "fail" and outcome.reason not in {EMPTY, NO_ROWS}:
            hint = "mend it, or leave such rows out and count them with `on_bad_row: skip`"
            raise DataError(outcome.detail, hint)
        self.skipped(outcome.id, outcome.reason)

    def fingerprint(self) -> str:
        """Return a hash of the names, sizes and times of local files; of a hub name, the revision that is asked for.

        The hub is not asked what a branch means now: the answer would change under a run that is interrupted.

        Raises:
            DataError: a pattern matches no file.
        """
        if self.path in LOADERS and not is_remote(self.data_files):
            return stamp(path for paths in local_files(self.data_files).values() for path in paths)
        if is_folder(self.path):
            folder = glob.escape(str(at_home(self.path)))
            return stamp(Finder(strict=False).find([f"{folder}/**"]))
        return self.revision or ""

    def _outcomes(self) -> Iterator[Outcome]:
        if self.path in LOADERS and not is_remote(self.data_files):
            return self._local(self.path, local_files(self.data_files, self.skipped))
        if is_folder(self.path):
            loader, splits = folder_files(self.path, self.name, self.data_files)
            if loader in LOADERS and not is_remote(splits):
                return self._local(loader, splits)
        return self._loaded()

    def _local(self, loader: str, splits: dict[str, list[str]]) -> Iterator[Outcome]:
        reading = Reading(loader, self._columns().names, self.sample_by, self.newlines, self.max_bytes)
        files = LocalFiles(splits, reading, self._columns())
        if self.seed is None:
            return files.outcomes(self.split)
        if self.streaming:
            return files.buffered(self.split, self.seed, self.buffer_size)
        return files.shuffled(self.split, self.seed)

    def _columns(self) -> Columns:
        return Columns(
            self.text_column,
            self.messages_column,
            self.id_column,
            self.newlines,
            self.max_bytes,
            self.metadata_columns,
        )

    def _loaded(self) -> Iterator[Outcome]:
        columns, loading = self._columns(), self._loading()
        for number, values in loading.rows(columns.names, self.seed, self.buffer_size):
            place = f"row {number} of {loading.called}"
            yield columns.outcome(Row(number, values), f"{self.path}/{self.split}/{number}", place)

    def _loading(self) -> Loading:
        files = by_split(self.data_files) if self.data_files else None
        return Loading(self.path, self.split, self.name, self.revision, files, self.streaming)
