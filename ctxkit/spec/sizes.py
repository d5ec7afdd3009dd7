"""Marks on options that say what a number counts, so that a rehearsal can shrink it: `Annotated[int, Tokens()]`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Size:
    """What a number counts. Unmarked numbers stay as they are."""

    least: int = 1
    """The smallest value that still works, where the bounds of the field itself do not say it."""


class Tokens(Size):
    """A length in tokens, such as a window: all lengths of a recipe shrink by one factor, so their ratios stay."""


class Characters(Size):
    """A length in characters: shrinks as tokens do."""


class Samples(Size):
    """How often something is measured: a rehearsal takes few."""


class Documents(Size):
    """How many documents are made: a rehearsal makes few."""


class Steps(Size):
    """Optimizer steps: a rehearsal takes few."""


class Epochs(Size):
    """Passes over rows: a rehearsal takes one."""
