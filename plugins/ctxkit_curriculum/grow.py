"""A window that grows with the steps."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

from ctxkit.spec import Phase
from ctxkit_curriculum.passes import all_rows, passes

if TYPE_CHECKING:
    from ctxkit.spec import RowTable, TrainingPlan


class Grow:
    """Cut rows into windows whose length is a function of the step alone."""

    def __init__(self, *, start: int, end: int | None, share: float, rule: str, multiple: int, seed: int) -> None:
        """Grow from `start` to `end` tokens over a share of the steps."""
        self._start, self._end, self._share = start, end, share
        self._rule, self._multiple, self._seed = rule, multiple, seed

    def __call__(self, rows: RowTable, plan: TrainingPlan) -> list[Phase]:
        """Return a phase for each length of the window; those within a doubling are one line of the metrics."""
        longest = int(rows.lengths.max())
        steps = plan.total_steps(len(rows))
        order = passes(all_rows(rows), steps * plan.rows_per_step, (self._seed,))
        windows = [self.window(step, steps, longest) for step in range(steps)]
        borders = [0, *(step for step in range(1, steps) if windows[step] != windows[step - 1]), steps]
        made = []
        for start, end in itertools.pairwise(borders):
            part = order[start * plan.rows_per_step : end * plan.rows_per_step]
            made.append(Phase(self._name(windows[start]), part, window=min(windows[start], longest)))
        return made

    def window(self, step: int, steps: int, longest: int) -> int:
        """Return the window in tokens of a step, from 0, of so many, where rows have up to `longest` tokens."""
        end = max(self._end or longest, self._start)
        grown = min(step / max(steps * self._share, 1), 1.0)
        if grown >= 1:
            return end
        length = math.floor(growth(self._rule, self._start, end, grown) / self._multiple) * self._multiple
        return min(max(length, self._start), end)

    def _name(self, window: int) -> str:
        """Return the name of the doubling that a window belongs to."""
        least = self._start << int(math.log2(window / self._start))
        return f"window {least} to {2 * least - 1}"


def growth(rule: str, start: int, end: int, part: float) -> float:
    """Return the length between two lengths, in tokens, when a part of the growth, from 0 to 1, is over."""
    if rule == "sqrt":
        return start + (end - start) * math.sqrt(part)
    if rule == "exponential":
        return float(start * (end / start) ** part)
    if rule == "steps":
        doublings = math.ceil(math.log2(end / start))
        return float(min(start << int(part * doublings), end))
    return start + (end - start) * part
