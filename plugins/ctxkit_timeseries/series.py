"""A series as a model reads it: whole steps of text, and the values that they stand for."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from ctxkit.errors import DataError
from ctxkit_timeseries.encoding import STEPS, Form

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from transformers import PreTrainedTokenizerBase

    from ctxkit.spec import Document


class Text:
    """Texts to token ids and back."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Take the tokenizer."""
        self._tokenizer: Any = tokenizer

    def prompt(self, text: str) -> list[int]:
        """Return the ids of a text, the begin token in front where the tokenizer has one."""
        begin = [] if self._tokenizer.bos_token_id is None else [self._tokenizer.bos_token_id]
        encoded = self._tokenizer(text, add_special_tokens=False, split_special_tokens=True, verbose=False)
        return [*begin, *encoded["input_ids"]]

    def of(self, ids: Sequence[int]) -> str:
        """Return the text of what a model wrote, up to its end token."""
        end = self._tokenizer.eos_token_id
        cut = list(ids).index(end) if end in ids else len(ids)
        text: str = self._tokenizer.decode(ids[:cut], skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text

    def ended(self, ids: Sequence[int], steps: int) -> bool:
        """Return whether a model wrote so many steps, or its end token."""
        return self._tokenizer.eos_token_id in ids or self.of(ids).count(STEPS) >= steps


@dataclass(frozen=True)
class Case:
    """One series of which a model sees so much."""

    prompt: list[int]
    history: NDArray[np.float64]
    """What the prompt shows, shape (steps, variables)."""
    truth: NDArray[np.float64]
    """What follows, shape (horizon, variables)."""
    spread: NDArray[np.float64]
    """How far each variable ranged in all of the series before, shape (variables,)."""
    form: Form
    longest_step: int
    """Tokens of the longest step of the series."""

    def error(self, forecast: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the mean absolute error of each variable; a missing step is as far off as the variable ranged."""
        errors = np.tile(self.spread, (len(self.truth), 1))
        errors[: len(forecast)] = np.abs(forecast - self.truth[: len(forecast)])
        mean: NDArray[np.float64] = errors.mean(axis=0)
        return mean


@dataclass(frozen=True)
class Series:
    """A document that holds a series, of which the last steps are to be forecast."""

    id: str
    steps: tuple[str, ...]
    """The text of each, its end included."""
    values: NDArray[np.float64]
    """Shape (steps, variables)."""
    known: int
    """Steps before those that are to be forecast."""
    form: Form
    names: tuple[str, ...]
    """Of the variables."""
    text: Text

    @classmethod
    def of(cls, document: Document, text: Text, horizon: int) -> Self:
        """Read a document whose last `horizon` steps are to be forecast.

        Raises:
            DataError: it holds no series, its metadata does not go with it, or its scale knows some of these steps.
        """
        steps, form = document.text.split(STEPS), Form.of(document.text)
        values = form.read(document.text)
        if not len(values) or len(values) < len(steps) - 1 or steps[-1].strip():
            said = f"forecast: {document.id!r} holds no series: its step {len(values) + 1} is no numbers"
            raise DataError(said, "a series is steps such as `0.25,1.50;`, all with as many values and decimals")
        scaled, known = _scaled(document), len(values) - horizon
        if scaled > max(known, 0):  # a series that is too short is said to be that
            said = f"forecast: the scale of {document.id!r} knows its first {scaled} of {len(values)} steps"
            raise DataError(f"{said}, and the last {horizon} are to be forecast", "lower its `scale_points`")
        names = _names(document, form.variables)
        return cls(document.id, tuple(step + STEPS for step in steps[:-1]), values, known, form, names, text)

    def check_like(self, first: Series) -> None:
        """Refuse a series that cannot be averaged with the first one.

        Raises:
            DataError: it has other variables, or other decimals.
        """
        for what, own, its in (
            ("values a step", self.form.variables, first.form.variables),
            ("decimals", self.form.decimals, first.form.decimals),
            ("variables", ",".join(self.names), ",".join(first.names)),
        ):
            if own != its:
                said = f"forecast: {self.id!r} has {what}: {own}; {first.id!r}, with which it is averaged: {its}"
                raise DataError(said, "give the eval series of one kind, and those of another an eval of their own")

    @property
    def history_tokens(self) -> int:
        """Tokens of all that comes before the steps that are to be forecast."""
        return len(self._prompt(self.known))

    def case(self, length: int) -> Case:
        """Return the series with as many whole steps of history as `length` tokens hold.

        Raises:
            DataError: they hold none.
        """
        fitting = bisect_right(range(self.known + 1), length, key=lambda shown: len(self._prompt(shown))) - 1
        if fitting < 1:
            raise DataError(f"forecast: {length} tokens hold no step of {self.id!r}", "raise `lengths`")
        history, truth = self.values[: self.known], self.values[self.known :]
        return Case(
            self._prompt(fitting), history[-fitting:], truth, np.ptp(history, axis=0), self.form, self._longest_step
        )

    def _prompt(self, shown: int) -> list[int]:
        return self.text.prompt("".join(self.steps[max(self.known - shown, 0) : max(self.known, 0)]))

    @cached_property
    def _longest_step(self) -> int:
        return max(len(self.text.prompt(step)) for step in self.steps)


def _scaled(document: Document) -> int:
    """Return how many steps the scale of a series knows, by its metadata; 0 where that says nothing.

    Raises:
        DataError: it is no whole number.
    """
    stated = document.metadata.get("scale_points", 0)
    if isinstance(stated, bool) or not isinstance(stated, int) or stated < 0:
        said = f"forecast: `scale_points` of {document.id!r} is {stated!r}, and no number of steps"
        raise DataError(said, "state how many steps at the front its scale knows; or leave it out, where it knows none")
    return stated


def _names(document: Document, count: int) -> tuple[str, ...]:
    """Return the names of the variables of a series, by its metadata; their numbers where that says nothing.

    Raises:
        DataError: there are more or fewer than the values of a step, or one of them is empty or twice there.
    """
    stated = document.metadata.get("variables", "")
    if stated == "":
        return tuple(str(place) for place in range(count))
    names = tuple(name.strip() for name in stated.split(",")) if isinstance(stated, str) else ()
    if len(names) != count or len(set(names)) < count or "" in names:
        said = f"forecast: `variables` of {document.id!r} is {stated!r}, and its steps have {count} values"
        raise DataError(said, "name each value once, such as `prey,predator`; or leave it out: they are numbered then")
    return names
