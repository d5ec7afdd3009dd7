"""Needles in a haystack: one sentence, or several, that state magic numbers or identifiers for keys."""

from __future__ import annotations

import random
import re
import uuid
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal

from ctxkit_evals.ruler.drawing import Count, Drawn, Frame, Sizing, check_enough, largest, shortest, shrunk, thrice
from ctxkit_evals.ruler.words import pairs

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

NOISE = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again."
NEEDLE = "One of the special magic {kind} for {key} is: {value}."
SEVERAL = (
    "Some special magic {kind} are hidden within the following text. Make sure to memorize it. I will quiz you about "
    "the {kind} afterwards.\n{context}\n"
    "What are all the special magic {kind} for {query} mentioned in the provided text?"
)
SEVERAL_ARE = " The special magic {kind} for {query} mentioned in the provided text are"
ONE = (
    "A special magic {kind} is hidden within the following text. Make sure to memorize it. I will quiz you about "
    "the {kind} afterwards.\n{context}\n"
    "What is the special magic {kind} for {query} mentioned in the provided text?"
)
ONE_IS = " The special magic {kind} for {query} mentioned in the provided text is"
DEPTHS = [round(100 * place / 39) for place in range(40)]
"""Where needles stand in a text, in percent of its sentences."""
SENTENCE_END = re.compile(r"(?<=[.!?])[\"')\]]*\s")

FEWER_WORDS: tuple[int, ...] = (500, 50)
"""How many words fewer of a text are tried, and the fewest: RULER's 500, and where its drawing would never end, 50."""
FEWER: tuple[int, ...] = (25, 5)
"""As above, of repeats and needles from 4096 tokens on; below, RULER has 5."""

Content = Literal["words", "numbers", "uuids"]


@dataclass(frozen=True)
class Niah:
    """A task with needles; the haystack is noise, other needles, or a text of the user's own."""

    name: str
    haystack: Literal["noise", "needles", "text"]
    keys: Content = "words"
    values: Content = "numbers"
    stated: int = 1
    """Keys in the haystack; as many as are asked for, at least."""
    asked: int = 1
    values_each: int = 1
    seed: int = 42
    frame: Frame = field(default_factory=Frame)
    text: Sequence[str] = ()
    """The words of the haystack, where it is a text."""
    room: ClassVar[int] = 128

    def fits(self, length: int, tokens: Count) -> bool:
        """Return whether prompts with the fewest repeats, needles or words of text fit."""
        step = self._step(length, tokens)
        if step is None:
            return False
        check_enough(partial(self._draw, random.Random(self.seed)), self._sizing(length, step), tokens)
        return True

    def prompts(self, length: int, tokens: Count) -> Iterator[Drawn]:
        """Yield prompts."""
        sizing = self._sizing(length, self._step(length, tokens) or FEWER[-1])
        draw = partial(self._draw, random.Random(self.seed))
        pieces = largest(draw, sizing, tokens)
        while True:
            yield shrunk(draw, pieces, sizing, tokens)

    def _step(self, length: int, tokens: Count) -> int | None:
        """Return the step of RULER, or a smaller one where no prompt of so many pieces fits; None where none does."""
        steps = FEWER_WORDS if self.haystack == "text" else FEWER[length < 4096 :]
        return next((step for step in steps if self._shortest(step, tokens) + self.room <= length), None)

    def _shortest(self, step: int, tokens: Count) -> int:
        return shortest(partial(self._draw, random.Random(self.seed)), step, tokens)

    def _sizing(self, length: int, step: int) -> Sizing:
        most = len(self.text) or None
        bound = partial(thrice, length)
        return Sizing(length, self.room, step, bound, step, most=most, hint="add text to `haystack`")

    def _draw(self, chance: random.Random, pieces: int) -> Drawn:
        keys, values = [], []
        for _ in range(self.stated):
            keys.append(self._one(self.keys, chance))
            values.append([self._one(self.values, chance) for _ in range(self.values_each)])
        needles = [self._needle(key, value) for key, found in zip(keys, values, strict=True) for value in found]
        random.Random(self.seed).shuffle(needles)
        context = self._hidden(needles, pieces, chance)
        chosen = chance.sample(range(self.stated), self.asked)
        answers = tuple(value for place in chosen for value in values[place])
        return Drawn(self._prompt(context, [keys[place] for place in chosen]), answers)

    def _hidden(self, needles: Sequence[str], pieces: int, chance: random.Random) -> str:
        if self.haystack == "text":
            return _among_sentences(sentences(" ".join(self.text[:pieces])), needles, chance)
        if self.haystack == "noise":
            lines = [NOISE] * pieces
        else:
            lines = [self._needle(self._one(self.keys, chance), self._one(self.values, chance)) for _ in range(pieces)]
        places = sorted(chance.sample(range(pieces), len(needles)), reverse=True)
        for place, needle in zip(places, needles, strict=True):
            lines.insert(place, needle)
        return "\n".join(lines)

    def _needle(self, key: str, value: str) -> str:
        return NEEDLE.format(kind=self.values, key=key, value=value)

    def _prompt(self, context: str, keys: Sequence[str]) -> str:
        single = self.asked * self.values_each == 1
        task, prefix = (ONE, ONE_IS) if single else (SEVERAL, SEVERAL_ARE)
        kind = self.values.removesuffix("s") if single else self.values
        query = f"{', '.join(keys[:-1])}, and {keys[-1]}" if len(keys) > 1 else keys[0]
        return self.frame(task.format(kind=kind, context=context, query=query), prefix.format(kind=kind, query=query))

    @staticmethod
    def _one(content: Content, chance: random.Random) -> str:
        if content == "numbers":
            return str(chance.randint(1_000_000, 9_999_999))
        if content == "words":
            return chance.choice(pairs())
        return str(uuid.UUID(int=chance.getrandbits(128), version=4))


def sentences(text: str) -> list[str]:
    """Return the sentences of a text whose words are separated by one blank: they end with `.`, `!` or `?`."""
    ends = [match.end() for match in SENTENCE_END.finditer(text)]
    return [text[start:end].strip() for start, end in zip([0, *ends], [*ends, None], strict=True)]


def _among_sentences(found: Sequence[str], needles: Sequence[str], chance: random.Random) -> str:
    places = sorted(int(len(found) * (depth / 100)) for depth in chance.sample(DEPTHS, len(needles)))
    parts, before = [], 0
    for place, needle in zip(places, needles, strict=True):
        parts += [" ".join(found[before:place]), needle]
        before = place
    return " ".join([*parts, " ".join(found[before:])])
