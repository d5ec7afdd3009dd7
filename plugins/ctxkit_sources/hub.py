"""Datasets by datasets' own loaders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ctxkit.errors import DataError
from ctxkit.spec import Document

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@dataclass(frozen=True)
class Hub:
    """Read one document a row."""

    path: str
    split: str
    text_column: str
    id_column: str | None
    arguments: Mapping[str, Any]
    """More keyword arguments of `load_dataset`."""

    def __iter__(self) -> Iterator[Document]:
        """Yield the documents.

        Raises:
            DataError: the dataset cannot be loaded, lacks a column, or holds a text that is none.
        """
        for number, row in enumerate(self._rows()):
            for column in filter(None, (self.text_column, self.id_column)):
                if column not in row:
                    raise DataError(f"{self.path} has no column {column}", f"it has {', '.join(sorted(row))}")
            text = row[self.text_column]
            if not isinstance(text, str):
                said = f"row {number} of {self.path}: {self.text_column} holds {type(text).__name__}, not text"
                raise DataError(said, "clean the file, or choose another text_column")
            yield Document(
                text, id=str(row[self.id_column]) if self.id_column else f"{self.path}/{self.split}/{number}"
            )

    def _rows(self) -> Iterator[Mapping[str, Any]]:
        from datasets import load_dataset
        from datasets.exceptions import DatasetsError

        try:
            yield from load_dataset(self.path, split=self.split, **self.arguments)
        except (DatasetsError, OSError, ValueError, StopIteration, RuntimeError) as error:
            # An empty file ends in a bare StopIteration.
            said = " ".join(str(error).split()) or "it is empty"
            raise DataError(f"the dataset {self.path} (split {self.split}) cannot be loaded: {said}") from error
