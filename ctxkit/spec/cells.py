"""The cells of an eval: pieces of work that are measured one by one, so that a kill or a failure costs one of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from ctxkit.errors import StoppedError

Work: TypeAlias = Callable[[], Any]
"""Measure one cell; return plain JSON values."""


@dataclass(frozen=True)
class Cells:
    """What came of the cells."""

    found: Mapping[str, Any]
    """The result of each cell that was measured, by its name, in the order in which they were handed over."""
    failed: Mapping[str, str]
    """Why another one could not be measured."""


def outcome(work: Work) -> tuple[Any, str | None]:
    """Return the result of a cell, or why there is none: too little memory, values that are not finite, ..."""
    try:
        return work(), None
    except StoppedError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever it is, the other cells are worth having
        said = str(error).strip().splitlines()
        return None, f"{type(error).__name__}: {said[0]}" if said else type(error).__name__


def in_order(description: str, cells: Mapping[str, Work]) -> Cells:
    """Measure cells one after the other, and keep them nowhere: what a `Context` does that the core did not make."""
    del description
    results = {name: outcome(work) for name, work in cells.items()}
    return Cells(
        {name: value for name, (value, why) in results.items() if why is None},
        {name: why for name, (_, why) in results.items() if why is not None},
    )
