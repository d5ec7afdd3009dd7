"""Numbers as text after LLMTime (Gruver et al. 2023, Large Language Models Are Zero-Shot Time Series Forecasters).

Each variable is scaled so that a high quantile of it is 1, and written with fixed decimals, cut off and not rounded;
what is read back gets half of the last decimal's worth added, so that it is off by no more than that. A step is its
values joined by commas and ended by a semicolon: `0.25,1.50;`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

VALUES, STEPS = ",", ";"
"""What stands between the values of a step, and what ends a step."""
_NUMBER = re.compile(r"-?\d{1,9}(?:\.(\d+))?", re.ASCII)


@dataclass(frozen=True)
class Scale:
    """How each variable is scaled: `(value - shift) / unit`, shape (variables,) each."""

    shift: NDArray[np.float64]
    unit: NDArray[np.float64]

    @classmethod
    def of(cls, history: NDArray[np.float64], quantile: float, offset: float | None) -> Scale:
        """Return the scale of a history of shape (steps, variables), as LLMTime's `get_scaler` makes it.

        `quantile` is its alpha: that quantile becomes 1. `offset` is its beta: zero is so many ranges below the least
        value; None is its form for what cannot be negative, in which zero stays zero.
        """
        if offset is None:
            shift = np.zeros(history.shape[1])
            unit = np.maximum(np.quantile(np.abs(history), quantile, axis=0), 0.01)
        else:
            least = history.min(axis=0)
            shift = least - offset * (history.max(axis=0) - least)
            unit = np.quantile(history - shift, quantile, axis=0)
        return cls(shift, np.where(unit == 0, 1.0, unit))

    def __call__(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return values scaled, whatever comes before the last axis."""
        return (values - self.shift) / self.unit


def encode(values: NDArray[np.float64], decimals: int, *, spaced: bool = False) -> str:
    """Return scaled values of shape (steps, variables) as text; `spaced` puts a blank before each digit."""
    text = "".join(VALUES.join(_written(value, decimals) for value in step) + STEPS for step in values.tolist())
    return re.sub(r"(\d)", r" \1", text) if spaced else text


def _written(value: float, decimals: int) -> str:
    # 0.29 times 100 is a little less than 29 in floating point, and must not be cut to 28.
    digits = f"{int(abs(value) * 10**decimals + 1e-9):0{decimals + 1}d}"
    sign = "-" if value < 0 else ""
    return f"{sign}{digits[:-decimals]}.{digits[-decimals:]}" if decimals else sign + digits


@dataclass(frozen=True)
class Form:
    """What every step of a series has."""

    variables: int
    decimals: int

    @classmethod
    def of(cls, text: str) -> Form:
        """Return the form of the first step of a text."""
        first = _plain(text).partition(STEPS)[0].split(VALUES)
        return cls(len(first), len(first[0].partition(".")[2]))

    def read(self, text: str) -> NDArray[np.float64]:
        """Return the whole steps at the front of a text, up to the first of another form, shape (steps, variables).

        Blanks are passed over, and what follows the last semicolon is no step.
        """
        steps: list[list[float]] = []
        for part in _plain(text).split(STEPS)[:-1]:
            found = [match for value in part.split(VALUES) if (match := _NUMBER.fullmatch(value))]
            if part.count(VALUES) + 1 != self.variables or [len(match[1] or "") for match in found] != self._lengths:
                break
            steps.append([self._middle(match[0]) for match in found])
        return np.array(steps, dtype=np.float64).reshape(len(steps), self.variables)

    @property
    def _lengths(self) -> list[int]:
        return [self.decimals] * self.variables

    def _middle(self, number: str) -> float:
        """Return the middle of what is written as a number: its digits were cut off, not rounded."""
        half = 0.5 * 10.0**-self.decimals
        return float(number) - half if number.startswith("-") else float(number) + half


def _plain(text: str) -> str:
    return re.sub(r"\s", "", text)
