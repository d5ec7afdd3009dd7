"""How small a rehearsal is: one power of two by which all lengths are divided, so that their ratios stay exact."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ctxkit.rehearsal.walking import Sized, sizes
from ctxkit.spec import Characters, Documents, Epochs, Samples, Steps, Tokens

if TYPE_CHECKING:
    from ctxkit.recipe import Recipe

WANTED = 1024
"""Tokens of the longest window of a rehearsal, where the shortest lengths of the recipe allow it."""
MOST = 2048
"""Tokens of the longest window of a rehearsal, at most: beyond it ratios give way."""
FEW = {Samples: 1, Documents: 64, Steps: 2, Epochs: 1}
"""What a rehearsal takes of everything that is counted and no length, at most."""


def halvings(recipe: Recipe, original: int | None) -> int:
    """Return how often every length is halved; `original` is the model's own window in tokens, where it is known."""
    most = longest(recipe, original)
    marked = [sized for sized in sizes(recipe) if isinstance(sized.size, Tokens) and sized.least > 1]
    room = [math.floor(math.log2(value / sized.least)) for sized in marked for value in sized.values if value > 0]
    wanted, needed = (max(math.ceil(math.log2(most / aim)), 0) for aim in (WANTED, MOST))
    return max(min([wanted, *room]), needed)


def longest(recipe: Recipe, original: int | None) -> int:
    """Return the longest window of a recipe in tokens, over what is trained, what is measured, and the scaling.

    `original` is the model's own in tokens, where it is known.
    """
    found = [original or 0]
    for stage in recipe.stages:
        found.append(stage.data.row_length)
        if stage.rope is not None and (stage.rope.target_length or original):
            found.append(stage.rope.window(original or 1))
        found += [value for sized in sizes(stage.evals) if isinstance(sized.size, Tokens) for value in sized.values]
    return max(found)


def shrunk(sized: Sized, halved: int) -> int | tuple[int, ...]:
    """Return what a rehearsal puts in place of a size; a list holds each value once."""
    if not isinstance(sized.value, tuple):
        return _shrunk(sized.value, sized, halved)
    values = tuple(dict.fromkeys(_shrunk(value, sized, halved) for value in sized.value))
    return _ends(values) if measured(sized) else values


def measured(sized: Sized) -> bool:
    """Return whether a size is a list of lengths that an eval measures at: a rehearsal measures at its two ends."""
    return isinstance(sized.value, tuple) and isinstance(sized.size, Tokens) and "evals" in sized.path


def _ends(values: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(value for value in values if value in (min(values), max(values)))


def _shrunk(value: int, sized: Sized, halved: int) -> int:
    if type(value) is not int:
        return value  # a share
    small = value >> halved if isinstance(sized.size, Tokens | Characters) else FEW.get(type(sized.size), value)
    return min(value, max(small, sized.least))
