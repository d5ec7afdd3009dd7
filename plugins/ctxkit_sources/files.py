"""Text files by glob patterns."""

from __future__ import annotations

import glob
import os
import random
import stat
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal

from ctxkit.errors import DataError
from ctxkit.spec import Document
from ctxkit_sources.decoding import Binary, Decoding, Newlines, UnusableError
from ctxkit_sources.matching import Finder, readable, stamp, unreported

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


@dataclass(frozen=True)
class Files:
    """Read one document a file, in an order that does not depend on the file system."""

    paths: Sequence[str]
    exclude: Sequence[str] = ()
    encoding: str = "utf-8"
    errors: Literal["strict", "skip", "replace"] = "strict"
    newlines: Newlines = "normalise"
    binary: Binary = "skip"
    max_bytes: int | None = None
    """The largest file that is read."""
    seed: int | None = None
    """Of the order; by path where None."""
    skipped: Callable[[str, str], None] = unreported
    """Told the id and why, for every file that is matched and left out."""

    def __iter__(self) -> Iterator[Document]:
        """Yield the documents.

        Raises:
            DataError: a pattern matches no file, or a file cannot be read as text.
        """
        # Unlike the names of a loop, these hold no document that was handed on: it may be of a gigabyte.
        yield from filter(None, map(self._document, self._ordered()))

    def fingerprint(self) -> str:
        """Return a hash of the names, sizes and times of the files that match.

        Raises:
            DataError: a pattern matches no file.
        """
        return stamp(Finder(strict=False).find(*self._patterns()), _named)

    def _ordered(self) -> list[str]:
        finder = Finder(lambda path, reason: self.skipped(_named(path), reason), strict=self.errors != "skip")
        found = finder.find(*self._patterns())
        if self.seed is not None:
            random.Random(f"files {self.seed}").shuffle(found)
        return found

    def _patterns(self) -> tuple[list[str], list[str]]:
        stdlib = glob.escape(sysconfig.get_path("stdlib"))
        written = (self.paths, self.exclude)
        paths, exclude = ([pattern.replace("{stdlib}", stdlib) for pattern in patterns] for patterns in written)
        return paths, exclude

    def _document(self, path: str) -> Document | None:
        text = self._text(path)
        # Not the absolute path: the same library elsewhere gives the same documents.
        return None if text is None else Document(text, id=_named(path), group=str(Path(_named(path)).parent))

    def _text(self, path: str) -> str | None:
        """Return the text of a file, or None where it is left out."""
        try:
            with open_regular(path) as file:
                text = None if self._too_large(file) else self._decoding().read(file)
        except UnusableError as error:
            self._not_text(path, error)
        except OSError as error:
            reason = f"cannot be read: {error.strerror}"
            self._left_out(path, reason, f"{path} {reason}", "exclude it, or set `errors: skip`")
        else:
            if not text:
                self.skipped(_named(path), "more than max_bytes" if text is None else "empty")
            return text or None
        return None

    def _decoding(self) -> Decoding:
        errors: Literal["strict", "replace"] = "replace" if self.errors == "replace" else "strict"
        return Decoding(self.encoding, errors, self.newlines, self.binary)

    def _too_large(self, file: BinaryIO) -> bool:
        return self.max_bytes is not None and os.fstat(file.fileno()).st_size > self.max_bytes

    def _not_text(self, path: str, error: UnusableError) -> None:
        if error.reason != "binary":
            hint = "set `encoding`, or `errors: skip` or `replace`"
            self._left_out(path, error.reason, f"{path} {error.detail}", f"{hint}{error.guess}")
        elif self.binary == "strict":
            raise DataError(f"{path} {error.detail}", "exclude it, or set `binary: skip` or `keep`") from error
        else:
            self.skipped(_named(path), error.reason)

    def _left_out(self, path: str, reason: str, message: str, hint: str) -> None:
        if self.errors != "skip":
            raise DataError(message, hint)
        self.skipped(_named(path), reason)


def open_regular(path: str) -> BinaryIO:
    """Open a file that is a file; one that was replaced by a pipe is refused, never waited for.

    Raises:
        OSError: it cannot be opened, or is something else.
    """
    # NONBLOCK: the opening of a pipe would wait for a writer. It changes nothing for a file.
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(0, "not a regular file", path)
    return os.fdopen(handle, "rb")


def _named(path: str) -> str:
    stdlib = sysconfig.get_path("stdlib")
    return readable("{stdlib}" + path[len(stdlib) :] if path.startswith(f"{stdlib}/") else path)
