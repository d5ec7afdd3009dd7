"""Predator and prey after Lotka and Volterra, solved by the classical Runge-Kutta method of fourth order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Rates:
    """The four rates of each system, shape (systems,) each, per unit of time."""

    growth: NDArray[np.float64]
    """By which prey grows undisturbed; often called alpha."""
    predation: NDArray[np.float64]
    """By which a predator takes prey; beta."""
    conversion: NDArray[np.float64]
    """By which a prey feeds new predators; delta."""
    death: NDArray[np.float64]
    """By which predators die; gamma."""

    def change(self, state: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the derivative of prey and predator, shape (systems, 2), as `state` has."""
        prey, predator = state[:, 0], state[:, 1]
        return np.stack(
            (
                (self.growth - self.predation * predator) * prey,
                (self.conversion * prey - self.death) * predator,
            ),
            axis=1,
        )


def solve(rates: Rates, start: NDArray[np.float64], points: int, interval: float, substeps: int) -> NDArray[np.float64]:
    """Return prey and predator of every system at `points` times, the first of them the start.

    Args:
        rates: Of each system.
        start: Shape (systems, 2).
        points: How many times.
        interval: Time between two points.
        substeps: Steps of the method between two points.

    Returns:
        Shape (systems, points, 2).
    """
    found = np.empty((len(start), points, 2))
    found[:, 0] = state = start
    for point in range(1, points):
        for _ in range(substeps):
            state = _runge_kutta(rates, state, interval / substeps)
        found[:, point] = state
    return found


def _runge_kutta(rates: Rates, state: NDArray[np.float64], step: float) -> NDArray[np.float64]:
    first = rates.change(state)
    second = rates.change(state + step / 2 * first)
    third = rates.change(state + step / 2 * second)
    fourth = rates.change(state + step * third)
    return state + step / 6 * (first + 2 * second + 2 * third + fourth)
