"""Simulated trajectories as documents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ctxkit.spec import Document
from ctxkit_timeseries.dynamics import Rates, solve
from ctxkit_timeseries.encoding import Scale, encode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Range = tuple[float, float]

HELD_OUT = 10
"""One trajectory of so many is held out: those whose index ends in 9."""
TOGETHER = 256
"""Trajectories that are solved at once."""


@dataclass(frozen=True)
class Ranges:
    """Between what each number of a system is drawn, evenly."""

    growth: Range
    predation: Range
    conversion: Range
    death: Range
    prey: Range
    predator: Range


@dataclass(frozen=True)
class Observation:
    """When and how exactly a system is looked at."""

    points: int
    interval: float
    substeps: int
    noise: float
    """Standard deviation of the logarithm of what is observed, about what is true."""


@dataclass(frozen=True)
class Writing:
    """How a trajectory becomes text."""

    decimals: int
    quantile: float
    offset: float | None
    scale_points: int
    """Points at the front that decide on the scale."""
    spaced: bool


@dataclass(frozen=True)
class Trajectories:
    """Yield one document a trajectory: the systems of the indices of its split, in their order.

    What a system is depends on `seed` and its index alone, so that more trajectories are the same ones and others.
    """

    count: int
    held_out: bool
    seed: int
    ranges: Ranges
    observation: Observation
    writing: Writing

    def __iter__(self) -> Iterator[Document]:
        """Yield the documents."""
        indices = self.indices()
        for start in range(0, len(indices), TOGETHER):
            block = indices[start : start + TOGETHER]
            for index, values in zip(block, self.values(block), strict=True):
                yield self._document(index, values)

    def indices(self) -> list[int]:
        """Return the index of each trajectory: every tenth is held out, so that the two splits share none."""
        if self.held_out:
            return [HELD_OUT * turn + HELD_OUT - 1 for turn in range(self.count)]
        return [turn + turn // (HELD_OUT - 1) for turn in range(self.count)]

    def values(self, indices: list[int]) -> NDArray[np.float64]:
        """Return what is observed of the systems of some indices, shape (systems, points, 2)."""
        generators = [np.random.default_rng((self.seed, index)) for index in indices]
        bounds = np.array([getattr(self.ranges, name) for name in Ranges.__dataclass_fields__])
        drawn = np.stack([generator.uniform(bounds[:, 0], bounds[:, 1]) for generator in generators])
        rates = Rates(*drawn[:, :4].T)
        seen = self.observation
        true = solve(rates, drawn[:, 4:], seen.points, seen.interval, seen.substeps)
        if not seen.noise:
            return true
        disturbed = [generator.normal(0.0, seen.noise, true.shape[1:]) for generator in generators]
        noisy: NDArray[np.float64] = true * np.exp(np.stack(disturbed))
        return noisy

    def _document(self, index: int, values: NDArray[np.float64]) -> Document:
        how = self.writing
        scale = Scale.of(values[: how.scale_points], how.quantile, how.offset)
        text = encode(scale(values), how.decimals, spaced=how.spaced)
        about: dict[str, str | int | float] = {"variables": "prey,predator", "scale_points": how.scale_points}
        for name, unit in zip(("prey", "predator"), scale.unit, strict=True):
            about[f"unit_{name}"] = float(unit)
        return Document(text, id=f"lotka_volterra/{self.seed}/{index}", metadata=about)
