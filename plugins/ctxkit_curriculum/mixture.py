"""A mixture of bands of length whose shares change with the steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ctxkit.errors import DataError
from ctxkit.spec import Phase
from ctxkit_curriculum.passes import measured, passes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from ctxkit.spec import RowTable, TrainingPlan

Point = tuple[float, tuple[float, ...]]
"""A part of the training, and the shares of the bands there."""


class Mixture:
    """Take each row from the band that lags furthest behind its share of the tokens."""

    def __init__(
        self,
        bands: Sequence[int],
        points: Sequence[Point],
        *,
        by: str,
        allow_unused: bool,
        seed: int,
        skipped: Callable[[str, str], None] | None = None,
    ) -> None:
        """Take the least tokens of each band, and the shares of the bands over time.

        `skipped` is told which band is skipped because it has no rows; without it that is an error.
        """
        self._bands, self._by, self._allow_unused, self._seed = bands, by, allow_unused, seed
        self._skipped = skipped
        self._times = np.array([at for at, _ in points])
        shares = np.array([values for _, values in points], dtype=np.float64)
        self._shares = shares / shares.sum(axis=1, keepdims=True)

    def __call__(self, rows: RowTable, plan: TrainingPlan) -> list[Phase]:
        """Return a phase between each two points, cut at whole steps.

        Raises:
            DataError: a band that has a share has no rows, or the other way round.
        """
        band = np.searchsorted(np.asarray(self._bands), measured(rows, self._by), side="right") - 1
        members = [np.flatnonzero(band == number) for number in range(len(self._bands))]
        self._refuse(members)
        steps = plan.total_steps(len(rows))
        order = self._order(members, rows.lengths, steps * plan.rows_per_step)
        ends = sorted({*(int(at * steps) for at in self._times), steps} - {0})
        return [
            Phase(
                f"{start / steps:.0%} to {end / steps:.0%}",
                order[start * plan.rows_per_step : end * plan.rows_per_step],
            )
            for start, end in zip([0, *ends], ends, strict=False)
        ]

    def shares(self, part: float) -> NDArray[np.float64]:
        """Return the share of each band, shape (bands,), when a part of the training, from 0 to 1, is over."""
        return np.array([np.interp(part, self._times, column) for column in self._shares.T])

    def _order(self, members: Sequence[NDArray[np.int64]], lengths: NDArray[np.int64], count: int) -> NDArray[np.int64]:
        """Return so many rows: each pays its tokens, and every band is credited with its share of them."""
        queues = [_Queue(rows, (self._seed, number)) for number, rows in enumerate(members)]
        order = np.empty(count, dtype=np.int64)
        credit = np.zeros(len(members))
        there = np.array([float(len(rows) > 0) for rows in members])
        for place in range(count):
            shares = self.shares(place / count) * there
            if not shares.any():
                shares = there
            shares = shares / shares.sum()
            band = int(np.argmax(np.where(shares > 0, credit, -np.inf)))
            order[place] = queues[band].take()
            tokens = lengths[order[place]]
            credit += shares * tokens
            credit[band] -= tokens
        return order

    def _refuse(self, members: Sequence[NDArray[np.int64]]) -> None:
        for least, rows, share in zip(self._bands, members, self._shares.max(axis=0), strict=True):
            if share and not len(rows):
                self._skip(least)
            if len(rows) and not share and not self._allow_unused:
                said = f"the band from {least:,} tokens has {len(rows):,} rows and no share at any point"
                raise DataError(said, "give it one, or say `allow_unused: true`")

    def _skip(self, least: int) -> None:
        if self._skipped is None:
            hint = "lower its border, give it no share, or say `skip_empty: true`"
            raise DataError(f"the band from {least:,} tokens has a share of the curriculum and no rows", hint)
        self._skipped(f"band from {least:,} tokens", "no rows")


class _Queue:
    """The rows of a band in random order, and again in another when they are used up."""

    def __init__(self, rows: NDArray[np.int64], seed: tuple[int, ...]) -> None:
        self._rows, self._seed = rows, seed
        self._order, self._taken, self._passes = rows[:0], 0, 0

    def take(self) -> int:
        """Return the next row."""
        if self._taken == len(self._order):
            self._order = passes(self._rows, len(self._rows), (*self._seed, self._passes))
            self._taken, self._passes = 0, self._passes + 1
        self._taken += 1
        return int(self._order[self._taken - 1])
