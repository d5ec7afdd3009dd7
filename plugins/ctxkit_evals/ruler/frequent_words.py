"""Frequent words: which three coded words appear most often in a text whose words follow a zeta distribution."""

from __future__ import annotations

import math
import random
import string
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ctxkit.errors import DataError
from ctxkit_evals.ruler.drawing import TRIED, Count, Drawn, Frame

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

TASK = (
    "Read the following coded text and track the frequency of each coded word. Find the three most frequently appeared "
    "coded words. {context}\nQuestion: Do not provide any explanation. Please ignore the dots '....'. What are the "
    "three most frequently appeared words in the above coded text?"
)
PREFIX = " Answer: According to the coded text above, the three most frequently appeared words are:"
LETTERS = 6
ZETA = math.pi**2 / 6
"""The zeta function at 2, the exponent of the distribution."""
TOKENS_PER_KIND = 50
"""For so many tokens of the length there is one more word to choose from."""
STEPS = 32
"""The text grows or shrinks by as many words as this part of the length in tokens."""
ANSWERS = 3


@dataclass(frozen=True)
class FrequentWords:
    """The task `fwe`; the most frequent word of all is written as three dots, and no answer."""

    name: str = "fwe"
    seed: int = 42
    frame: Frame = field(default_factory=Frame)
    room: ClassVar[int] = 50

    def fits(self, length: int, tokens: Count) -> bool:
        """Return whether prompts can be made in which the words asked for are more frequent than the others."""
        try:
            list(islice(self.prompts(length, tokens), TRIED))
        except DataError:
            return False
        return True

    def prompts(self, length: int, tokens: Count) -> Iterator[Drawn]:
        """Yield prompts."""
        most, chance = length - self.room, random.Random(self.seed)
        kinds, step = most // TOKENS_PER_KIND, most // STEPS
        if kinds < ANSWERS + 2:
            raise _too_short(length)
        words = self._grown(self._vocabulary(chance, kinds), most, tokens)
        while True:
            vocabulary = self._vocabulary(chance, kinds)
            fewer = (self._drawn(vocabulary, count) for count in range(words, 0, -step) if _clear(kinds, count))
            found = next((drawn for drawn in fewer if tokens(drawn.text) <= most), None)
            if found is None:
                raise _too_short(length)
            yield found

    def _grown(self, vocabulary: Sequence[str], most: int, tokens: Count) -> int:
        """Return the words of a text: those of the last one that was shorter than the room for it."""
        words, step = most // LETTERS, most // STEPS
        while tokens(self._drawn(vocabulary, words).text) < most:
            words += step
        return words - step

    def _vocabulary(self, chance: random.Random, kinds: int) -> list[str]:
        def word() -> str:
            return "".join(chance.choices(string.ascii_lowercase, k=LETTERS))

        words = [word() for _ in range(kinds)]
        while len(set(words)) < kinds:
            words.append(word())
        words = sorted(set(words))
        random.Random(self.seed).shuffle(words)
        return ["...", *words[1:]]

    def _drawn(self, vocabulary: Sequence[str], count: int) -> Drawn:
        often = zip(vocabulary, frequencies(len(vocabulary), count), strict=True)
        words = [word for word, times in often for _ in range(times)]
        random.Random(self.seed).shuffle(words)
        text = self.frame(TASK.format(context=" ".join(words)), PREFIX)
        return Drawn(text, tuple(vocabulary[1 : ANSWERS + 1]))


def frequencies(kinds: int, count: int) -> list[int]:
    """Return how often each of `kinds` words is among about `count`: by one over the square of its rank."""
    ranks = np.arange(1, kinds + 1)
    times: list[int] = (count * (ranks**-2.0) / ZETA).astype(int).tolist()
    return times


def _clear(kinds: int, count: int) -> bool:
    """Return whether every word that is asked for appears more often than every other but the dots."""
    times = frequencies(kinds, count)
    return times[ANSWERS] > times[ANSWERS + 1]


def _too_short(length: int) -> DataError:
    return DataError(f"{length} tokens are too short for fwe", "make the length longer")
