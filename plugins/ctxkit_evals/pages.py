"""What is hidden in a text and what is asked about it, before any token: names with their values, at depths.

The amounts are those of RULER (Hsieh et al. 2024, section 3): `num_needle_k` names, `num_needle_v` values of each,
`num_needle_q` names in one question.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator, Sequence

WORDS = """
amber apple arrow bacon badge banjo basil beach berry bison bread brick brush cabin camel candy canoe cedar chair
cherry cliff clock cloud cobra comet coral crane daisy dance eagle ember feast fence ferry flame flute forest fox
frost ghost glass goose grape hammer harbor hazel honey horse island ivory jacket jungle kettle ladder lemon lily
linen lion lotus maple marble meadow melon mirror moose ocean olive onion orbit otter owl panda paper pearl pepper
piano pilot plum pond puzzle quartz queen rabbit raven river robin saddle salmon shell silver smoke snow spider
stone sugar table tiger torch tower tulip turtle valley velvet violin walnut whale willow winter wolf zebra
"""
NAMES = tuple(WORDS.split())
"""What values go by: short common words, of which most tokenizers make one or two tokens."""


@dataclass(frozen=True)
class Amounts:
    """How much one prompt hides and asks."""

    names: int = 1
    values: int = 1
    """Of each name."""
    asked: int = 1
    """Names in one question."""

    @property
    def on_grid(self) -> bool:
        """Whether a question is about one place, which then has a depth."""
        return self.values == self.asked == 1

    @property
    def mode(self) -> str:
        """The name of the task by its amounts."""
        if self.asked > 1:
            return "multi_query"
        if self.values > 1:
            return "multi_value"
        return "multi_key" if self.names > 1 else "single"


@dataclass(frozen=True)
class Statement:
    """One sentence in the text."""

    depth: float
    name: str
    value: str


@dataclass(frozen=True)
class Question:
    """What is asked at the end."""

    asked: tuple[Statement, ...]
    depth: float | None
    """Of what is asked, where that is one place."""

    @property
    def names(self) -> tuple[str, ...]:
        """The names asked about, each once."""
        return tuple(dict.fromkeys(statement.name for statement in self.asked))


@dataclass(frozen=True)
class Page:
    """A text with its statements, in their order, and the questions about it, each a prompt of its own."""

    statements: tuple[Statement, ...]
    questions: tuple[Question, ...]


def pages(
    amounts: Amounts, depths: Sequence[float], generator: random.Random, value: Callable[[random.Random], str]
) -> list[Page]:
    """Return the texts of one sample.

    Where a question is about one place, there is one for each depth: a page with `names` statements asks about as many
    depths, and takes random places for names that it does not ask about. Otherwise there is one page, with statements
    in random places, and questions about all of its names.
    """
    if not amounts.on_grid:
        return [_anywhere(amounts, generator, value)]
    count = -(-len(depths) // amounts.names)
    return [_at(depths[number::count], amounts.names, generator, value) for number in range(count)]


def _at(depths: Sequence[float], names: int, generator: random.Random, value: Callable[[random.Random], str]) -> Page:
    others = [generator.random() for _ in range(names - len(depths))]
    drawn = zip([*depths, *others], generator.sample(NAMES, names), _values(names, generator, value), strict=True)
    statements = [Statement(*each) for each in drawn]
    questions = tuple(Question((statement,), statement.depth) for statement in statements[: len(depths)])
    return Page(_sorted(statements), questions)


def _anywhere(amounts: Amounts, generator: random.Random, value: Callable[[random.Random], str]) -> Page:
    names = generator.sample(NAMES, amounts.names)
    drawn = _values(amounts.names * amounts.values, generator, value)
    statements = [
        Statement(generator.random(), name, each)
        for number, name in enumerate(names)
        for each in drawn[number * amounts.values : (number + 1) * amounts.values]
    ]
    return Page(_sorted(statements), tuple(_questions(statements, amounts)))


def _questions(statements: Sequence[Statement], amounts: Amounts) -> Iterator[Question]:
    size = amounts.asked * amounts.values
    for start in range(0, len(statements) - size + 1, size):
        yield Question(tuple(statements[start : start + size]), None)


def _values(count: int, generator: random.Random, value: Callable[[random.Random], str]) -> list[str]:
    """Return values of which no two are the same."""
    found: dict[str, None] = {}
    while len(found) < count:
        found[value(generator)] = None
    return list(found)


def _sorted(statements: Sequence[Statement]) -> tuple[Statement, ...]:
    return tuple(sorted(statements, key=lambda statement: statement.depth))
