"""What the tasks have in common: a prompt, what frames it, and how much text it holds.

RULER draws prompts from one stream of random numbers, also while it looks for the size that fits. The order of the
draws is kept here, since the prompts follow from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, TypeAlias, TypeVar

from ctxkit.errors import DataError

Count: TypeAlias = Callable[[str], int]
"""The tokens of a text, special tokens that a tokenizer adds not counted."""
REDRAWS = 100
"""RULER draws again for ever where no less text will do; by then it is clear that the length is too short."""
TRIED = 8
"""Draws by which is judged how long the shortest prompts are."""


class Text(Protocol):
    """What was drawn."""

    @property
    def text(self) -> str:
        """The whole prompt."""


T = TypeVar("T", bound=Text)
Draw: TypeAlias = Callable[[int], T]
"""Make a prompt of so many pieces: repeats, needles or words."""


@dataclass(frozen=True)
class Drawn:
    """A prompt as text, and what a right answer holds."""

    text: str
    answers: tuple[str, ...]


@dataclass(frozen=True)
class Frame:
    """What stands before and after a task in the template of a chat; nothing for a base model."""

    before: str = ""
    after: str = ""

    def __call__(self, task: str, prefix: str) -> str:
        """Return a task in its frame, and with how the answer begins."""
        return f"{self.before}{task}{self.after}{prefix}"


class Task(Protocol):
    """One of RULER's tasks."""

    @property
    def name(self) -> str:
        """What reports call it: RULER's name only where the prompts are RULER's."""

    @property
    def room(self) -> int:
        """The most tokens of an answer, for which a length leaves room."""

    def fits(self, length: int, tokens: Count) -> bool:
        """Return whether the shortest prompts, with the room for the answer, are at most so many tokens long.

        Raises:
            DataError: prompts so long cannot be made for another reason, such as too little text.
        """

    def prompts(self, length: int, tokens: Count) -> Iterator[Drawn]:
        """Yield prompts without end, the same every time.

        Raises:
            DataError: the length is too short.
        """


@dataclass(frozen=True)
class Sizing:
    """How many pieces a prompt may hold."""

    length: int
    """Tokens of the prompt and the room for the answer."""
    room: int
    step: int
    """The fewest pieces that are tried first; also how many fewer are tried where a prompt turns out too long."""
    bound: Callable[[float], int]
    """The most pieces worth trying, from the tokens of a piece."""
    probe: int
    """Pieces of the first draw, which tells the tokens of a piece."""
    least: int = 1
    """The fewest pieces that make a prompt."""
    most: int | None = None
    """Pieces that there are; None where there is no end of them."""
    hint: str = ""
    """What to do where they are too few."""
    extra: int = 0
    """Tokens that a prompt has besides those drawn while the size is searched."""

    def fits(self, text: str, tokens: Count) -> bool:
        """Return whether a prompt leaves the room for its answer."""
        return tokens(text) + self.room <= self.length


def thrice(length: int, each: float) -> int:
    """Return the most pieces worth trying, where each has so many tokens."""
    return int(length / each * 3)


def largest(draw: Draw[Text], sizing: Sizing, tokens: Count) -> int:
    """Return the most pieces that fit, by bisection over drawn prompts; the fewest where none were found to fit.

    Raises:
        DataError: all the pieces that there are leave the length unfilled.
    """
    each = tokens(draw(sizing.probe).text) / sizing.probe
    low, high, found = sizing.step, max(sizing.bound(each), sizing.step * 2), sizing.step
    while low <= high:
        middle = (low + high) // 2
        if _fits(draw, middle, sizing, tokens):
            found, low = middle, middle + 1
        else:
            high = middle - 1
    if found == sizing.most:
        raise _unfilled(sizing)
    return found


def check_enough(draw: Draw[Text], sizing: Sizing, tokens: Count) -> None:
    """Raise the error of `largest` where all the pieces that there are leave the length unfilled."""
    # A piece has a token at least.
    if sizing.most is not None and sizing.most < sizing.length and _fits(draw, sizing.most, sizing, tokens):
        raise _unfilled(sizing)


def _unfilled(sizing: Sizing) -> DataError:
    return DataError(f"there are {sizing.most} words, which do not fill {sizing.length} tokens", sizing.hint)


def _fits(draw: Draw[Text], pieces: int, sizing: Sizing, tokens: Count) -> bool:
    if sizing.most is not None and pieces > sizing.most:
        return False  # RULER repeats its essays instead
    return tokens(draw(pieces).text) + sizing.extra + sizing.room <= sizing.length


def shrunk(draw: Draw[T], pieces: int, sizing: Sizing, tokens: Count) -> T:
    """Return a prompt that fits, drawn again with fewer pieces until one does.

    Raises:
        DataError: none does.
    """
    for _ in range(REDRAWS + pieces // sizing.step):
        drawn = draw(pieces)
        if sizing.fits(drawn.text, tokens):
            return drawn
        pieces = max(pieces - sizing.step, sizing.least) if pieces > sizing.step else pieces
    raise DataError(f"no prompt of {sizing.length} tokens was found", "make the length longer")


def shortest(draw: Draw[Text], step: int, tokens: Count) -> int:
    """Return the tokens of the longest of some prompts of the fewest pieces."""
    return max(tokens(draw(step).text) for _ in range(TRIED))
