"""Which changes make a stage fit, ranked; and what a stage that fits has room for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ctxkit_planner.changes import CHANGES, joined

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ctxkit_planner.changes import Changed
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
    """Of one machine's memory, more than before."""
    time: float
    """Of a token, by that before it; 1 where nothing changes, 2 for half the speed."""
    fits: bool


@dataclass(frozen=True)
class Advice:
    """What would make a stage fit."""

    singles: tuple[Ranked, ...]
    """Single changes that save memory: those that make it fit first, then by what they save."""
    cheapest: Ranked | None
    """Changes that together make it fit, and train the same model if any do; None where nothing does."""
    here: Ranked | None
    """The same on the GPUs that were asked for, though it may train another model; None where none fits them."""

    @property
    def ways(self) -> tuple[Ranked, ...]:
        """What to propose: first what keeps the GPUs, then, where that is another, what keeps the model."""
        found = [one for one in (self.here, self.cheapest) if one is not None]
        return tuple(found[:1] if self.here is self.cheapest else found)


def advise(plan: StagePlan) -> Advice:
    """Return what would make a stage fit.

    What trains the same model comes before what trains another, the same GPUs before more of them.
    """
    found = singles(plan)
    fitting = [one for one in found if one.fits]
    level = [(changed, group + 1) for group, changed in _made(plan, 0)]
    for _ in range(2, MOST_AT_ONCE + 1):
        if any(not one.changed.alters and _gpus(one) == plan.machines.gpus for one in fitting):
            break
        level = [pair for changed, first in level if not changed.plan.fits for pair in _extended(changed, first)]
        fitting += [ranked(plan, changed) for changed, _ in level if changed.plan.fits]
    here = [one for one in fitting if _gpus(one) == plan.machines.gpus]
    return Advice(tuple(found), min(fitting, key=_price, default=None), min(here, key=_price, default=None))


def singles(plan: StagePlan) -> list[Ranked]:
    """Return single changes that save memory; of those that differ in size alone, one."""
    best: dict[int, Changed] = {}
    for group, changed in _made(plan, 0):
        if group not in best or not best[group].plan.fits:
            best[group] = changed
    return sorted((ranked(plan, changed) for changed in best.values()), key=_rank)


def ranked(plan: StagePlan, changed: Changed) -> Ranked:
    """Return a change with its effect on a stage."""
    after, before = changed.plan.memory, plan.memory
    return Ranked(
        changed,
        after.peak_bytes,
        before.peak_bytes - after.peak_bytes,
        after.host_bytes * changed.plan.machines.beside - before.host_bytes * plan.machines.beside,
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


def _made(plan: StagePlan, first: int) -> Iterator[tuple[int, Changed]]:
    """Yield each change, from a group on, that saves memory, with the number of its group."""
    for group in range(first, len(CHANGES)):
        for change in CHANGES[group]:
            changed = change(plan)
            if changed is not None and _saves(plan, changed.plan):
                yield group, changed


def _extended(changed: Changed, first: int) -> Iterator[tuple[Changed, int]]:
    for group, further in _made(changed.plan, first):
        yield joined(changed, further), group + 1


def _saves(before: StagePlan, after: StagePlan) -> bool:
    least = LEAST_SAVED * before.memory.peak_bytes
    return before.memory.peak_bytes - after.memory.peak_bytes > least or (after.fits and not before.fits)


def _gpus(one: Ranked) -> int:
    return one.changed.plan.machines.gpus


def _rank(one: Ranked) -> tuple[bool, bool, int, float]:
    if one.fits:
        return False, one.changed.alters, _gpus(one), round(one.time, 2)
    return True, False, 0, -one.saved


def _price(one: Ranked) -> tuple[bool, int, float, int]:
    return one.changed.alters, _gpus(one), round(one.time, 1), len(one.changed.names)
