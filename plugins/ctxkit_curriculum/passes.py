"""Rows in random order, pass after pass: the same for the same seed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ctxkit.spec import RowTable


def passes(rows: NDArray[np.int64], count: int, seed: tuple[int, ...]) -> NDArray[np.int64]:
    """Return `count` rows, shape (count,): all of them in random order, then all again in another."""
    whole, rest = divmod(count, len(rows))
    orders = [np.random.default_rng((*seed, number)).permutation(rows) for number in range(whole + bool(rest))]
    return np.concatenate(orders)[:count].astype(np.int64) if orders else np.empty(0, dtype=np.int64)


def measured(table: RowTable, by: str) -> NDArray[np.int64]:
    """Return the tokens of each row, or of the longest document of which it has a part, shape (rows,)."""
    return table.documents if by == "document" else table.lengths


def all_rows(table: RowTable) -> NDArray[np.int64]:
    """Return the numbers of all rows."""
    return np.arange(len(table), dtype=np.int64)
