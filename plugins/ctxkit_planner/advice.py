"""Which changes make a stage fit, ranked; and what a stage that fits has room for."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ctxkit_planner.changes import CHANGES, Changed, combined

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ctxkit_planner.changes import Change
    from ctxkit_planner.stages import StagePlan

MOST_AT_ONCE = 4
"""Changes that a combination has at most."""
LEAST_SAVED = 0.01
"""A change that saves less than this part of the peak is not named."""
MOST_ROWS = 64


@dataclass(frozen=True)
class Ranked:
    """A change with its effect."""

    changed: Changed
    bytes: float
    """Peak of a GPU after it."""
    saved: float
    """Bytes less than before."""
    host_bytes: float
    """Of one process, after it."""
    time: float
    """Of a token, by that before it; 1 where nothing changes, 2 for half the speed."""
    fits: bool


def singles(plan: StagePlan) -> list[Ranked]:
    """Return single changes that save memory, those that make it fit first, then by what they cost and save."""
    made = [ranked(plan, changed) for change in CHANGES if (changed := change(plan)) is not None]
    useful = [one for one in made if one.saved > LEAST_SAVED * plan.memory.peak_bytes or (one.fits and not plan.fits)]
    return sorted(useful, key=lambda one: (not one.fits, one.changed.alters, _gpus(one), one.time, -one.saved))


def cheapest(plan: StagePlan) -> Ranked | None:
    """Return the cheapest changes together that make a stage fit, as few as can be; None where none do.

    What trains the same model comes before what trains another, the same GPUs before more of them.
    """
    found = [one for one in singles(plan) if one.fits]
    for count in range(2, MOST_AT_ONCE + 1):
        if any(not one.changed.alters for one in found):
            break
        fitting = (changed for changed in _combinations(plan, count) if changed.plan.fits)
        found += [ranked(plan, changed) for changed in fitting]
    return min(found, key=_price, default=None)


def ranked(plan: StagePlan, changed: Changed) -> Ranked:
    """Return a change with its effect on a stage."""
    after, before = changed.plan.memory, plan.memory
    return Ranked(
        changed,
        after.peak_bytes,
        before.peak_bytes - after.peak_bytes,
        after.host_bytes,
        time_by(plan, changed.plan),
        changed.plan.fits,
    )


def time_by(before: StagePlan, after: StagePlan) -> float:
    """Return the GPU time of a token by that before a change."""
    each = [plan.step.seconds * plan.machines.gpus / plan.tokens_per_step for plan in (before, after)]
    return each[1] / each[0]


def most_rows(plan: StagePlan) -> int:
    """Return how many rows at a time fit, in powers of two times those that there are."""
    rows = plan.setup.rows
    while rows < MOST_ROWS and replace(plan, setup=replace(plan.setup, rows=2 * rows)).fits:
        rows *= 2
    return rows


def _combinations(plan: StagePlan, count: int) -> Iterator[Changed]:
    for chosen in itertools.combinations(CHANGES, count):
        made = _applied(plan, chosen)
        if made is not None:
            yield made


def _applied(plan: StagePlan, chosen: tuple[Change, ...]) -> Changed | None:
    made = chosen[0](plan)
    for change in chosen[1:]:
        made = combined(made, change) if made is not None else None
    return made


def _gpus(one: Ranked) -> int:
    return one.changed.plan.machines.gpus


def _price(one: Ranked) -> tuple[bool, int, float, int]:
    return one.changed.alters, _gpus(one), round(one.time, 1), len(one.changed.names)
