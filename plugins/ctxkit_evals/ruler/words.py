"""The words of RULER: those of the package wonderwords, which it takes them from too."""

from __future__ import annotations

import functools
from bisect import bisect_right
from collections.abc import Sequence
from importlib import resources
from importlib.util import find_spec
from itertools import accumulate
from typing import overload

from ctxkit.errors import DataError


def check_words(tasks: Sequence[str]) -> None:
    """Raise an error that names the extra where the words are not installed."""
    if find_spec("wonderwords") is None:
        raise DataError(
            f"the words of {', '.join(tasks)} come from the package wonderwords, which is not installed",
            'install it by the extra: pip install "ctxkit-longcontext[evals]"; or leave those tasks out of `tasks`',
        )


@functools.cache
def listed(name: str) -> tuple[str, ...]:
    """Return one of the lists of wonderwords: `noun`, `adjective` or `verb`."""
    text = (resources.files("wonderwords") / "assets" / f"{name}list.txt").read_text(encoding="utf-8")
    return tuple(line.rstrip() for line in text.splitlines())


@functools.cache
def pairs() -> Pairs:
    """Return all of `adjective-noun`."""
    return Pairs(listed("adjective"), listed("noun"))


@functools.cache
def vocabulary() -> tuple[str, ...]:
    """Return nouns, adjectives and verbs, each once, in their order."""
    return tuple(sorted({*listed("noun"), *listed("adjective"), *listed("verb")}))


class Pairs(Sequence[str]):
    """All `first-second` in their order, each once, without the gigabyte that a list of them would need.

    The words that begin with one first word are a block. Where that word and a hyphen begin another first word (`blue`,
    `blue-eyed`), their words lie among each other and are one block.
    """

    def __init__(self, firsts: Sequence[str], seconds: Sequence[str]) -> None:
        """Put the first words into their blocks."""
        self._seconds = sorted(set(seconds))
        self._blocks: list[list[str]] = []
        for first in sorted({f"{word}-" for word in firsts}):
            if self._blocks and first.startswith(self._blocks[-1][0]):
                self._blocks[-1].append(first)
            else:
                self._blocks.append([first])
        self._ends = list(accumulate(self._size(number) for number in range(len(self._blocks))))

    def __len__(self) -> int:
        """Return how many words there are."""
        return self._ends[-1]

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[str]: ...
    def __getitem__(self, place: int | slice) -> str | Sequence[str]:
        """Return the word at a place, or those of a slice."""
        if isinstance(place, slice):
            return [self[one] for one in range(*place.indices(len(self)))]
        number = bisect_right(self._ends, place)
        within = place - (self._ends[number - 1] if number else 0)
        if len(self._blocks[number]) == 1:
            return self._blocks[number][0] + self._seconds[within]
        return self._mixed(number)[within]

    def _size(self, number: int) -> int:
        return len(self._seconds) if len(self._blocks[number]) == 1 else len(self._mixed(number))

    def _mixed(self, number: int) -> list[str]:
        return _sorted_pairs(tuple(self._blocks[number]), tuple(self._seconds))


@functools.lru_cache(maxsize=16)
def _sorted_pairs(firsts: tuple[str, ...], seconds: tuple[str, ...]) -> list[str]:
    return sorted({first + second for first in firsts for second in seconds})
