"""Simulated trajectories as documents."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ctxkit.errors import DataError
from ctxkit.spec import Document
from ctxkit_timeseries.dynamics import Rates, solve
from ctxkit_timeseries.encoding import Scale, encode

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

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
        """Yield the documents.

        Raises:
            DataError: the solver's steps are too long, or the noise is beyond all numbers.
        """
        indices = self.indices()
        self._check_exact(indices[:TOGETHER])
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
        """Return what is observed of the systems of some indices, shape (systems, points, 2).

        Raises:
            DataError: some of it is no finite number.
        """
        generators, seen = self._generators(indices), self.observation
        true = self._solved(generators, seen.substeps)
        if not seen.noise:
            return true
        disturbed = [generator.normal(0.0, seen.noise, true.shape[1:]) for generator in generators]
        with np.errstate(over="ignore", invalid="ignore"):
            noisy: NDArray[np.float64] = true * np.exp(np.stack(disturbed))
        if not np.isfinite(noisy).all():
            raise DataError(f"lotka_volterra: noise of {seen.noise} makes numbers beyond all bounds", "lower `noise`")
        return noisy

    def _generators(self, indices: Sequence[int]) -> list[np.random.Generator]:
        return [np.random.default_rng((self.seed, index)) for index in indices]

    def _solved(self, generators: Sequence[np.random.Generator], substeps: int) -> NDArray[np.float64]:
        """Return what is true of the systems that generators draw, shape (systems, points, 2)."""
        bounds = np.array([getattr(self.ranges, name) for name in Ranges.__dataclass_fields__])
        drawn = np.stack([generator.uniform(bounds[:, 0], bounds[:, 1]) for generator in generators])
        seen = self.observation
        with np.errstate(over="ignore", invalid="ignore"):
            true = solve(Rates(*drawn[:, :4].T), drawn[:, 4:], seen.points, seen.interval, substeps)
        if not np.isfinite(true).all():
            said = (
                f"lotka_volterra: with {seen.substeps} substeps in an interval of {seen.interval} the solver diverges"
            )
            raise DataError(said, f"raise `substeps`, such as to {2 * seen.substeps}; or lower `interval` or the rates")
        return true

    def _check_exact(self, indices: Sequence[int]) -> None:
        """Compare what is solved with what half the step gives: they must be the same to half of the last decimal.

        Raises:
            DataError: they are not.
        """
        seen, how = self.observation, self.writing
        once, twice = (self._solved(self._generators(indices), times * seen.substeps) for times in (1, 2))
        scales = [Scale.of(values[: how.scale_points], how.quantile, how.offset) for values in twice]
        off = max(
            float(np.abs(scale(one) - scale(two)).max()) for scale, one, two in zip(scales, once, twice, strict=True)
        )
        allowed = 0.5 * 10.0**-how.decimals
        if off > allowed:
            # The method is of fourth order: what is off falls with the fourth power of the step.
            more = max(math.ceil(seen.substeps * (off / allowed) ** 0.25), 2 * seen.substeps)
            said = f"lotka_volterra: {seen.substeps} substeps in an interval of {seen.interval} are off by {off:.2g}"
            raise DataError(f"{said}, and {how.decimals} decimals are written", f"raise `substeps`, such as to {more}")

    def _document(self, index: int, values: NDArray[np.float64]) -> Document:
        how = self.writing
        scale = Scale.of(values[: how.scale_points], how.quantile, how.offset)
        text = encode(scale(values), how.decimals, spaced=how.spaced)
        about: dict[str, str | int | float] = {"variables": "prey,predator", "scale_points": how.scale_points}
        for name, unit in zip(("prey", "predator"), scale.unit, strict=True):
            about[f"unit_{name}"] = float(unit)
        return Document(text, id=f"lotka_volterra/{self.seed}/{index}", metadata=about)
