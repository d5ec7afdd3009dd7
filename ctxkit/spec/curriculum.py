"""What a curriculum is told of a stage, and what it says: which rows are served in which order, and how."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DIFFICULTIES = ("easy", "medium", "hard", "very_hard")
"""The groups of `RowTable.difficulty`, the easiest first."""


@dataclass(frozen=True)
class RowTable:
    """The rows that a stage can train on, one number a row in each column; every column has shape (rows,)."""

    lengths: NDArray[np.int64]
    """Tokens of the row."""
    documents: NDArray[np.int64]
    """Tokens of the longest document of which the row has a part, whole as it was read."""
    sources: NDArray[np.int64]
    """The number of the source of its first chunk."""
    difficulty: NDArray[np.str_]
    """One of `DIFFICULTIES`, as `ctxkit data` counts them."""

    def __len__(self) -> int:
        """Return how many rows there are."""
        return len(self.lengths)


@dataclass(frozen=True)
class TrainingPlan:
    """How long a stage trains by its `train` section, where the curriculum does not decide that itself."""

    rows_per_step: int
    """Rows that one optimizer step sees, over all processes and accumulated batches."""
    steps: int | None = None
    """`max_steps`; None where epochs count."""
    epochs: float = 1.0
    """`num_train_epochs`, which counts where there is no `max_steps`."""

    def total_steps(self, rows: int) -> int:
        """Return the optimizer steps of a stage whose epoch has so many rows."""
        return self.steps or max(math.ceil(rows * self.epochs / self.rows_per_step), 1)


@dataclass(frozen=True)
class Phase:
    """A stretch of the training in which nothing changes but the rows.

    Phases that follow each other with the same name and epoch are one line of the metrics.
    """

    name: str
    """What the metrics call it."""
    order: NDArray[np.int64]
    """Numbers of rows in the order in which they are served, repeats included; a whole number of optimizer steps."""
    learning_rate: float = 1.0
    """What the learning rate of the stage's own schedule is multiplied by."""
    window: int | None = None
    """Tokens that attention can reach: rows are split into windows of so many, each with positions from 0. None leaves
    rows as they are; others need `data.packing` with its document mask."""
    epoch: int = 1
    """Which pass over its rows, from 1."""


class Curriculum(Protocol):
    """Decide which rows are trained when."""

    def __call__(self, rows: RowTable, plan: TrainingPlan) -> Sequence[Phase]:
        """Return the phases in the order in which they are trained: the same for the same rows, plan and seed.

        What is in no phase is not trained; the core counts it and says so.

        Raises:
            CtxkitError: the rows do not fit, with the reason.
        """
