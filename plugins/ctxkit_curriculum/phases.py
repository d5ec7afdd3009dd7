"""Phases with rows of their own, one after the other."""

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
    from ctxkit_curriculum.options import PhaseOptions


class Phases:
    """Serve the rows of each phase for as long as it says."""

    def __init__(
        self,
        phases: Sequence[PhaseOptions],
        *,
        by: str,
        allow_unused: bool,
        seed: int,
        skipped: Callable[[str, str], None],
    ) -> None:
        """Take the phases in order; `by` says what their lengths measure, `skipped` is told what is skipped and why."""
        self._phases, self._by, self._allow_unused, self._seed = phases, by, allow_unused, seed
        self._skipped = skipped

    def __call__(self, rows: RowTable, plan: TrainingPlan) -> list[Phase]:
        """Return one phase for each pass over the rows of a phase, or one for all of its steps.

        Raises:
            DataError: a phase has no rows of its own, or rows fit no phase.
        """
        lengths = measured(rows, self._by)
        chosen = [chosen_rows(phase, lengths, rows.difficulty) for phase in self._phases]
        for phase, found in zip(self._phases, chosen, strict=True):
            if not len(found):
                self._skip(phase, int(lengths.max()))
        if not self._allow_unused:
            _refuse_unused(lengths, chosen)
        made: list[Phase] = []
        for number, (phase, found) in enumerate(zip(self._phases, chosen, strict=True)):
            if len(found):
                made += self._served(phase, found, plan.rows_per_step, number)
        return made

    def _skip(self, phase: PhaseOptions, longest: int) -> None:
        groups = f" of difficulty {', '.join(phase.difficulty)}" if phase.difficulty else ""
        reason = f"no row of {phase.range}{groups}"
        if phase.optional:
            self._skipped(f"phase {phase.name}", reason)
            return
        hint = f"the longest has {longest:,} tokens; `ctxkit data --show` has all lengths"
        raise DataError(f"phase {phase.name} of the curriculum has {reason}", hint)

    def _served(self, phase: PhaseOptions, rows: NDArray[np.int64], rows_per_step: int, number: int) -> list[Phase]:
        """Return the passes of a phase, each ending with a whole step; the last step is filled up from another pass."""
        if phase.steps is not None:
            ends = [phase.steps]
        else:
            ends = [-(-len(rows) * done // rows_per_step) for done in range(1, (phase.epochs or 0) + 1)]
        order = passes(rows, ends[-1] * rows_per_step, (self._seed, number))
        made = []
        for epoch, (start, end) in enumerate(zip([0, *ends], ends, strict=False), start=1):
            part = order[start * rows_per_step : end * rows_per_step]
            if len(part):
                made.append(Phase(phase.name, part, phase.learning_rate, epoch=epoch))
        return made


def chosen_rows(phase: PhaseOptions, lengths: NDArray[np.int64], difficulty: NDArray[np.str_]) -> NDArray[np.int64]:
    """Return the numbers of the rows of a phase; none where it has none of its own."""
    own = lengths >= phase.least
    if phase.most is not None:
        own &= lengths <= phase.most
    if phase.difficulty:
        own &= np.isin(difficulty, phase.difficulty)
    if phase.keep_shorter and own.any():
        own |= lengths < phase.least
    return np.flatnonzero(own)


def _refuse_unused(lengths: NDArray[np.int64], chosen: Sequence[NDArray[np.int64]]) -> None:
    unused = np.ones(len(lengths), dtype=bool)
    for rows in chosen:
        unused[rows] = False
    if not unused.any():
        return
    left = lengths[unused]
    raise DataError(
        f"{len(left):,} of {len(lengths):,} rows, of {left.min():,} to {left.max():,} tokens, fit no phase of the "
        "curriculum",
        "widen `least`, `most` or `difficulty` of a phase, or say `allow_unused: true`",
    )
