"""Common words: which ten of a numbered list of words appear most often."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from ctxkit_evals.ruler.drawing import Count, Drawn, Frame, Sizing, check_enough, largest, shortest, shrunk
from ctxkit_evals.ruler.words import vocabulary

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

TASK = (
    "Below is a numbered list of words. In these words, some appear more often than others. Memorize the ones that "
    "appear most often.\n{context}\nQuestion: What are the 10 most common words in the above list?"
)
PREFIX = " Answer: The top 10 words that appear most often in the list are:"
COMMON = 10
STEP = 10
PROBE = 4096
MORE_WORDS = "state RULER's english_words.json as `english_words`, or leave cwe out of `tasks`"


class Repeats(NamedTuple):
    """How often each word is listed."""

    common: int
    uncommon: int


class Form(NamedTuple):
    """How long the lists are."""

    example: int
    """Words of the list that is solved."""
    in_example: Repeats
    repeats: Repeats


LONG = Form(40, Repeats(10, 3), Repeats(30, 3))
"""From 4096 tokens on."""
SHORT = Form(20, Repeats(3, 1), Repeats(6, 1))


@dataclass(frozen=True)
class CommonWords:
    """The task `cwe`: a list of words after a shorter one that is solved."""

    name: str = "cwe"
    seed: int = 42
    frame: Frame = field(default_factory=Frame)
    more_words: tuple[str, ...] = ()
    """What words are drawn from where more are needed than wonderwords has."""
    room: ClassVar[int] = 120

    def fits(self, length: int, tokens: Count) -> bool:
        """Return whether an example and the shortest list fit."""
        form = self._form(length, tokens)
        if form is None:
            return False
        check_enough(partial(self._draw, random.Random(self.seed), form), self._sizing(length), tokens)
        return True

    def prompts(self, length: int, tokens: Count) -> Iterator[Drawn]:
        """Yield prompts."""
        draw = partial(self._draw, random.Random(self.seed), self._form(length, tokens) or SHORT)
        sizing = self._sizing(length)
        pieces = largest(draw, sizing, tokens)
        while True:
            yield shrunk(draw, pieces, sizing, tokens)

    def _form(self, length: int, tokens: Count) -> Form | None:
        """Return RULER's form, or the short one where no long one fits, for which RULER never ends."""
        forms = (LONG, SHORT) if length >= 4096 else (SHORT,)
        return next((form for form in forms if self._shortest(form, tokens) + self.room <= length), None)

    def _shortest(self, form: Form, tokens: Count) -> int:
        return shortest(partial(self._draw, random.Random(self.seed), form), STEP, tokens)

    def _sizing(self, length: int) -> Sizing:
        most = max(len(self._words), len(self.more_words))
        return Sizing(length, self.room, STEP, lambda each: int(length // each) * 2, PROBE, COMMON, most, MORE_WORDS)

    @cached_property
    def _words(self) -> Sequence[str]:
        words = list(vocabulary())
        random.Random(self.seed).shuffle(words)
        return words

    def _draw(self, chance: random.Random, form: Form, pieces: int) -> Drawn:
        shown, solution = self._listed(chance, form.example, form.in_example)
        asked, answers = self._listed(chance, pieces, form.repeats)
        return Drawn(f"{self._prompt(shown)} {numbered(solution)}\n{self._prompt(asked)}", tuple(answers))

    def _listed(self, chance: random.Random, count: int, repeats: Repeats) -> tuple[list[str], list[str]]:
        """Return a list of words, and the common ones among them."""
        words = chance.sample(self._words if count <= len(self._words) else self.more_words, count)
        common, uncommon = words[:COMMON], words[COMMON:]
        found = common * repeats.common + uncommon * repeats.uncommon
        random.Random(self.seed).shuffle(found)
        return found, common

    def _prompt(self, words: Sequence[str]) -> str:
        return self.frame(TASK.format(context=numbered(words)), PREFIX)


def numbered(words: Sequence[str]) -> str:
    """Return words with their numbers, in one line."""
    return " ".join(f"{number}. {word}" for number, word in enumerate(words, 1))
