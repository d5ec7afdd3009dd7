"""Rows by datasets' own loaders: what is asked for, or an error, never what merely has the same name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctxkit.errors import DataError
from ctxkit_sources.commits import cached_commit, is_commit
from ctxkit_sources.locating import LOADERS, is_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


@dataclass(frozen=True)
class Loading:
    """How `datasets` is asked for rows."""

    path: str
    split: str
    name: str | None = None
    revision: str | None = None
    data_files: Mapping[str, Sequence[str]] | None = None
    streaming: bool = False

    def rows(self, columns: Sequence[str], seed: int | None, buffer_size: int) -> Iterator[tuple[int, Any]]:
        """Yield the rows with their numbers, in an order drawn from the seed if there is one.

        Where rows are streamed in another order, they are numbered in that.

        Raises:
            DataError: the dataset cannot be loaded, or lacks a column.
        """
        from datasets.exceptions import DatasetsError

        try:
            dataset = self._with_columns(self._dataset(), columns)
            if seed is None:
                yield from enumerate(dataset)
            elif self.streaming:
                yield from enumerate(dataset.shuffle(seed=seed, buffer_size=buffer_size))
            else:
                yield from _permuted(dataset, seed)
        except (DatasetsError, OSError, ValueError, StopIteration, RuntimeError) as error:
            raise DataError(f"{self.called} cannot be loaded: {_said(error)}", self._shadow()) from error

    @property
    def called(self) -> str:
        """The dataset as a message names it."""
        files = ", ".join(pattern for patterns in (self.data_files or {}).values() for pattern in patterns)
        return f"{f'{files} of ' * bool(files)}the dataset {self.path} (split {self.split})"

    def _dataset(self) -> Any:
        from datasets import load_dataset_builder

        arguments = {} if self.data_files is None else {"data_files": self.data_files}
        # A bare name would mean a folder of the same name in the working directory, if there is one.
        path = f"hf://datasets/{self.path}" if self._is_name() else self.path
        builder = load_dataset_builder(path, name=self.name, revision=self.revision, **arguments)
        if type(builder).__module__.endswith(".cache"):
            self._check_cached(builder.hash)
        if self.streaming:
            return builder.as_streaming_dataset(split=self.split)
        builder.download_and_prepare()
        return builder.as_dataset(split=self.split)

    def _check_cached(self, commit: str) -> None:
        """Refuse what the cache offers under the name where the hub cannot be reached, if it is something else."""
        if not is_commit(commit):
            hint = f"to read a folder, write it as a path, such as ./{self.path}"
            raise DataError(f"{self.called} cannot be reached, and the cache knows only a folder of that name", hint)
        if self.revision and cached_commit(self.path, self.revision) != commit:
            said = f"{self.called} cannot be reached, and the cache holds the commit {commit}, not {self.revision}"
            raise DataError(said, f"go online, or set `revision: {commit}`")

    def _with_columns(self, dataset: Any, columns: Sequence[str]) -> Any:
        """Return the columns alone: others may hold what takes time or more libraries to decode, such as pictures."""
        there = dataset.column_names or ()
        missing = [name for name in columns if there and name not in there]
        if missing:
            raise DataError(f"{self.called} has no column {missing[0]}", f"it has {', '.join(sorted(there))}")
        return dataset.select_columns(list(columns)) if there else dataset

    def _is_name(self) -> bool:
        return self.path not in LOADERS and not is_folder(self.path) and "://" not in self.path

    def _shadow(self) -> str:
        shadowed = self._is_name() and Path(self.path).is_dir()
        return f"the folder {self.path} is not meant unless it is written ./{self.path}" if shadowed else ""


def _permuted(dataset: Any, seed: int) -> Iterator[tuple[int, Any]]:
    """Yield the rows with their numbers in an order drawn from a seed."""
    import numpy as np

    for number in np.random.default_rng(seed).permutation(len(dataset)):
        yield int(number), dataset[int(number)]


def _said(error: BaseException) -> str:
    """Return what went wrong in one line; datasets hides the reason behind a message of its own."""
    cause = error.__cause__ or error
    return " ".join(str(cause).split()) or "it is empty"
