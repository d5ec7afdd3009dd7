"""The texts that changes wrote last, since what one change of a file writes is what its next change replaces."""

from __future__ import annotations

import sys
from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ctxkit_sources.git.blobs import Blob, OneByOne
    from ctxkit_sources.git.texts import Texts

KEPT_BYTES = 16_000_000
"""Bytes of texts that are kept: the files that are being worked on, not the repository."""
ENTRY = 300
"""Bytes that an entry takes besides its text."""


class Recent:
    """Texts by object id, as `Texts.read` returns them, within a limit of memory.

    The first thread asks git for contents, far ahead of the second, which takes them. What was there when the first
    left out to ask may be gone when the second comes to it, and is then read by itself.
    """

    def __init__(self, texts: Texts, again: OneByOne, limit: int) -> None:
        """Begin with nothing; `again` reads what is gone, `limit` is in bytes."""
        self._texts = texts
        self._again = again
        self._room = limit
        self._coming: set[str] = set()
        self._reserved = 0
        self._last: dict[str, int] = {}
        """For which number a content is wanted last, by its id."""
        self._kept: OrderedDict[str, tuple[str, str]] = OrderedDict()

    def reserve(self, id_: str) -> int:
        """Return a number with which to `get` a content that need not be asked for, or 0; in the first thread."""
        # In this order: `put` does the opposite, so that a content on its way is always in one of the two.
        if id_ not in self._coming:
            try:
                self._kept.move_to_end(id_)
            except KeyError:
                return 0
        self._reserved += 1
        self._last[id_] = self._reserved
        return self._reserved

    def expect(self, id_: str) -> str:
        """Return the id of a content that is to be asked for, and count on it from now on; in the first thread."""
        self._coming.add(id_)
        return id_

    def put(self, id_: str, blob: Blob) -> tuple[str, str]:
        """Keep a content that came, and return its text; in the second thread."""
        judged = self._texts.read(blob, id_)
        before = self._kept.pop(id_, None)
        self._kept[id_] = judged
        self._room += (_size(before) if before else 0) - _size(judged)
        while self._room < 0:
            self._room += _size(self._kept.popitem(last=False)[1])
        self._coming.discard(id_)
        return judged

    def once(self, blob: Blob) -> tuple[str, str]:
        """Return the text of a content that came and is not to be kept."""
        return self._texts.read(blob, "")

    def get(self, id_: str, reserved: int) -> tuple[str, str]:
        """Return the text of a content that was not asked for; in the second thread.

        Raises:
            DataError: git failed.
        """
        last = self._last.get(id_) == reserved
        if last:
            del self._last[id_]
        judged = self._kept.get(id_)
        if judged is None:
            return self.once(self._again.read(id_))
        if last:
            # Replaced, it is seldom wanted again: the next to go.
            self._kept.move_to_end(id_, last=False)
        return judged


def _size(judged: tuple[str, str]) -> int:
    return sys.getsizeof(judged[0]) + ENTRY
