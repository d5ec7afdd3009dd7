"""Forecasts that need no model: what any model must beat."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def persistence(history: NDArray[np.float64], horizon: int) -> NDArray[np.float64]:
    """Return the last step of a history of shape (steps, variables), `horizon` times."""
    return np.repeat(history[-1:], horizon, axis=0)


def last_cycle(history: NDArray[np.float64], horizon: int) -> NDArray[np.float64]:
    """Return the last cycle of a history again and again; where it shows none, the last step."""
    period = cycle(history)
    if period is None:
        return persistence(history, horizon)
    places = len(history) - period + np.arange(horizon) % period
    return history[places]


def cycle(history: NDArray[np.float64]) -> int | None:
    """Return the steps of a cycle, by how little a history differs from itself so many steps later; None without one.

    The mean absolute difference grows from lag 1 until the series is farthest from itself, about half a cycle later,
    and falls to its least about a whole cycle later: that lag is taken, where it is the lesser of its neighbours.
    """
    lags = range(1, 2 * len(history) // 3 + 1)  # a longer lag would be judged by few pairs
    differences = np.array([np.abs(history[lag:] - history[:-lag]).mean() for lag in lags])
    falling = np.flatnonzero(np.diff(differences) < 0)
    if not len(falling):
        return None
    summit = int(falling[0])
    least = summit + int(differences[summit:].argmin())
    # At the last lag it may still be falling: less than a cycle is to be seen.
    return None if least + 1 == len(differences) else lags[least]
