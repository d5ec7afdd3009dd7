"""The texts that were read last, since what one change of a file writes is what its next change replaces."""

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

    The thread that asks git for contents runs ahead of the one that takes them; what was there when the first left
    out to ask may be gone when the second comes to it, and is then read by itself.
    """

    def __init__(self, texts: Texts, again: OneByOne, limit: int) -> None:
        """Begin with nothing; `again` reads what is gone, `limit` is in bytes."""
        self._texts = texts
        self._again = again
        self._room = limit
        self._coming: set[str] = set()
        self._kept: OrderedDict[str, tuple[str, str]] = OrderedDict()

    def has(self, id_: str) -> bool:
        """Tell whether a content need not be asked for, and let it stay longer if so; in the thread that asks."""
        # In this order: `put` does the opposite, so that a content on its way is always in one of the two.
        if id_ in self._coming:
            return True
        try:
            self._kept.move_to_end(id_)
        except KeyError:
            return False
        return True

    def expect(self, id_: str) -> str:
        """Return the id of a content that is to be asked for, and count on it from now on; in the thread that asks."""
        self._coming.add(id_)
        return id_

    def put(self, id_: str, blob: Blob) -> tuple[str, str]:
        """Keep a content that came, and return its text; in the thread that reads."""
        judged = self._texts.read(blob, id_)
        before = self._kept.pop(id_, None)
        self._kept[id_] = judged
        self._room += (_size(before) if before else 0) - _size(judged)
        while self._room < 0:
            self._room += _size(self._kept.popitem(last=False)[1])
        self._coming.discard(id_)
        return judged

    def get(self, id_: str) -> tuple[str, str]:
        """Return the text of a content that was not asked for; in the thread that reads.

        Raises:
            DataError: git failed.
        """
        return self._kept.get(id_) or self.put(id_, self._again.read(id_))


def _size(judged: tuple[str, str]) -> int:
    return sys.getsizeof(judged[0]) + ENTRY
