"""Progress on stderr: a bar where a person looks, a line now and then where a log is written."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Self, TypeVar

from tqdm import tqdm

from ctxkit.launch import rank

T = TypeVar("T")
SECONDS_BETWEEN_LINES = 10


def interactive() -> bool:
    """Return whether bars can be drawn: a terminal, and not CI."""
    return sys.stderr.isatty() and not os.environ.get("CI")


def say(text: str) -> None:
    """Print one line to stderr from the first process."""
    if rank() == 0:
        tqdm.write(text, file=sys.stderr)


def track(items: Iterable[T], description: str, total: int) -> Iterator[T]:
    """Yield items under a bar; `total` 0 means unknown."""
    with Bar(description, total) as bar:
        for item in items:
            yield item
            bar.advance()


class Bar:
    """A progress bar, or lines at intervals where there is no terminal."""

    def __init__(self, description: str, total: int, done: int = 0) -> None:
        """Start at `done` of `total` steps."""
        self._description, self._total, self._done = description, total, done
        self._said = time.monotonic()
        hidden = rank() != 0 or not interactive()
        self._bar = tqdm(
            total=total or None, initial=done, desc=description, file=sys.stderr, disable=hidden, leave=False
        )

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Take the bar away."""
        self._bar.close()

    def advance(self, note: str = "") -> None:
        """Count one step, with a note such as the loss."""
        self._done += 1
        if note:
            self._bar.set_postfix_str(note, refresh=False)
        self._bar.update()
        if self._bar.disable and time.monotonic() - self._said > SECONDS_BETWEEN_LINES:
            self._said = time.monotonic()
            of = f"/{self._total}" if self._total else ""
            say(f"{self._description}: {self._done}{of} {note}".rstrip())
