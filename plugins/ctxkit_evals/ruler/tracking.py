"""Variable tracking: which variables hold a value, over a chain of assignments."""

from __future__ import annotations

import random
import string
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar

from ctxkit.errors import DataError
from ctxkit_evals.ruler.drawing import Count, Drawn, Frame, Sizing, largest, shortest, shrunk, thrice
from ctxkit_evals.ruler.niah import NOISE

if TYPE_CHECKING:
    from collections.abc import Iterator

TASK = (
    "Memorize and track the chain(s) of variable assignment hidden in the following text.\n\n{context}\n"
    "Question: Find all variables that are assigned the value {value} in the text above."
)
PREFIX = (
    " Answer: According to the chain(s) of variable assignment in the text above, 5 variables are assigned the "
    "value {value}, they are: "
)
VARIABLES = 5
"""In a chain: the first holds the value, each other one the variable before it."""
EXAMPLE_LENGTH = 500
"""Tokens of the example that each prompt begins with, at most, where the tokenizer can write one in so few."""
EXAMPLE_VALUE = "12345"
EXAMPLE_STEP = 5


class Chance:
    """The two streams of random numbers of RULER: Python's, and numpy's old one for the values."""

    def __init__(self, seed: int) -> None:
        """Begin both with the seed."""
        from numpy.random import RandomState

        self.python = random.Random(seed)
        self._numpy = RandomState(seed)

    def name(self, letters: int) -> str:
        """Return the name of a variable."""
        return "".join(self.python.choices(string.ascii_uppercase, k=letters))

    def names(self, letters: int) -> list[str]:
        """Return the names of a chain, no two of them the same."""
        found = [self.name(letters) for _ in range(VARIABLES)]
        while len(set(found)) < VARIABLES:
            found.append(self.name(letters))
        return list(dict.fromkeys(found))

    def value(self) -> str:
        """Return a number of five digits."""
        return str(self._numpy.randint(10_000, 99_999))


@dataclass(frozen=True)
class Hidden:
    """A chain within noise, and the question for it."""

    task: str
    prefix: str
    variables: tuple[str, ...]

    @property
    def text(self) -> str:
        """The whole prompt."""
        return self.task + self.prefix

    def solved(self) -> str:
        """Return the prompt and its answer."""
        return f"{self.text} {' '.join(self.variables)}\n"


@dataclass(frozen=True)
class Tracking:
    """The task `vt`: one chain in noise, after an example that is solved."""

    name: str = "vt"
    seed: int = 42
    frame: Frame = field(default_factory=Frame)
    room: ClassVar[int] = 30

    def fits(self, length: int, tokens: Count) -> bool:
        """Return whether an example and prompts with the fewest repeats of the noise fit."""
        chance = Chance(self.seed)
        draw = partial(self._draw, chance, example(chance, tokens))
        return shortest(draw, _step(length), tokens) + self.room <= length

    def prompts(self, length: int, tokens: Count) -> Iterator[Drawn]:
        """Yield prompts, in each the example with other names."""
        chance, step = Chance(self.seed), _step(length)
        shown = example(chance, tokens)
        extra = tokens(shown.solved())
        sizing = Sizing(length, self.room, step, partial(thrice, length), step, VARIABLES, extra=extra)
        pieces = largest(partial(self._draw, chance, None), sizing, tokens)
        while True:
            yield shrunk(partial(self._draw, chance, shown), pieces, sizing, tokens)

    def _draw(self, chance: Chance, shown: Hidden | None, pieces: int) -> Drawn:
        hidden = _hidden(chance, pieces, chance.names(5), None)
        before = "" if shown is None else f"{_renamed(shown, chance)}\n"
        return Drawn(self.frame(before + hidden.task, hidden.prefix), hidden.variables)


def example(chance: Chance, tokens: Count) -> Hidden:
    """Return the example: as long as fits its tokens, or else with the fewest repeats of the noise.

    RULER never ends where no example is short enough.
    """

    def draw(pieces: int) -> Hidden:
        return _hidden(chance, pieces, chance.names(3), EXAMPLE_VALUE)

    sizing = Sizing(EXAMPLE_LENGTH, 0, EXAMPLE_STEP, partial(thrice, EXAMPLE_LENGTH), EXAMPLE_STEP, VARIABLES)
    pieces = largest(draw, sizing, tokens)
    try:
        return shrunk(draw, pieces, sizing, tokens)
    except DataError:
        return draw(EXAMPLE_STEP)


def _hidden(chance: Chance, pieces: int, names: list[str], value: str | None) -> Hidden:
    stated = value or chance.value()
    chain = [f"VAR {names[0]} = {stated}"]
    chain += [f"VAR {name} = VAR {before} " for before, name in pairwise(names)]
    lines = [NOISE] * pieces
    places = sorted(chance.python.sample(range(pieces), len(chain)))
    for moved, (place, line) in enumerate(zip(places, chain, strict=True)):
        lines.insert(place + moved, line)
    task = TASK.format(context="\n".join(lines), value=stated)
    return Hidden(task, PREFIX.format(value=stated), tuple(names))


def _renamed(shown: Hidden, chance: Chance) -> str:
    """Return the solved example with other names and another value, put in by plain replacement as RULER does."""
    text = shown.solved()
    for name in shown.variables:
        text = text.replace(name, chance.name(len(name)))
    return text.replace(EXAMPLE_VALUE, chance.value())


def _step(length: int) -> int:
    return 10 if length >= 4096 else 5
