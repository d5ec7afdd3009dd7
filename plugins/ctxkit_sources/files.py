"""Text files by glob patterns."""

from __future__ import annotations

import glob
import os
import random
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ctxkit.errors import DataError
from ctxkit.spec import Document

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


@dataclass(frozen=True)
class Files:
    """Read one document a file, in an order that does not depend on the file system."""

    paths: Sequence[str]
    exclude: Sequence[str] = ()
    encoding: str = "utf-8"
    errors: str = "strict"
    seed: int | None = None
    """Of the order; by path where None."""

    def __iter__(self) -> Iterator[Document]:
        """Yield the documents.

        Raises:
            DataError: a pattern matches no file, or a file cannot be read as text.
        """
        for path in self._matched():
            text = self._text(path)
            if text is not None:
                # Not the absolute path: the same library elsewhere gives the same documents.
                yield Document(text, id=_named(path), group=str(Path(_named(path)).parent))

    def _matched(self) -> list[str]:
        excluded = {os.path.realpath(path) for pattern in self.exclude for path in _globbed(pattern)}
        found: set[str] = set()
        for pattern in self.paths:
            matched = [path for path in _globbed(pattern) if Path(path).is_file()]
            if not matched:
                raise DataError(f"no file matches {pattern}", "paths are relative to the working directory")
            found.update(path for path in matched if excluded.isdisjoint(_and_above(path)))
        ordered = sorted(found)
        if self.seed is not None:
            random.Random(f"files {self.seed}").shuffle(ordered)
        return ordered

    def _text(self, path: str) -> str | None:
        try:
            # Line ends become "\n" and a byte order mark goes: files differ in them for no reason a model should learn.
            text = Path(path).read_text(self.encoding, errors="replace" if self.errors == "replace" else "strict")
            return text.removeprefix("\ufeff")
        except UnicodeDecodeError as error:
            if self.errors == "skip":
                return None
            message = f"{path} is not {self.encoding}: byte {error.object[error.start]:#04x} at {error.start}"
            raise DataError(message, "set `encoding`, or `errors: skip` or `replace`") from error
        except LookupError as error:
            raise DataError(f"{self.encoding} is no encoding of text", "such as utf-8, latin-1 or cp1252") from error
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}") from error


def _and_above(path: str) -> list[str]:
    """Return a path and the folders it lies in, as they are named without links."""
    resolved = Path(os.path.realpath(path))
    return [str(resolved), *map(str, resolved.parents)]


def _globbed(pattern: str) -> list[str]:
    expanded = pattern.replace("{stdlib}", glob.escape(sysconfig.get_path("stdlib")))
    return glob.glob(expanded, recursive=True)  # noqa: PTH207 - Path.glob refuses absolute patterns


def _named(path: str) -> str:
    stdlib = sysconfig.get_path("stdlib")
    return "{stdlib}" + path[len(stdlib) :] if path.startswith(f"{stdlib}/") else path
