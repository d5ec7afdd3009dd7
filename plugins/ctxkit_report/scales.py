"""Map values to pixels, and choose where the ticks stand."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ctxkit_report.notation import compact, tokens

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_WIDE = 12.0
"""Ratio of greatest to least value from which on a vertical axis is logarithmic."""


@dataclass(frozen=True)
class Scale:
    """An axis: `low` stands at pixel `start`, `high` at pixel `end`."""

    low: float
    high: float
    start: float
    end: float
    ticks: tuple[float, ...]
    label: Callable[[float], str] = compact
    log: bool = False

    def __call__(self, value: float) -> float:
        """Return the pixel of a value."""
        low, high = self._flat(self.low), self._flat(self.high)
        return self.start + (self._flat(value) - low) / (high - low) * (self.end - self.start)

    def _flat(self, value: float) -> float:
        return math.log2(value) if self.log else value


def length_scale(lengths: Sequence[float], start: float, end: float) -> Scale:
    """Place context lengths on a log2 axis with a tick at each, thinned where they would touch."""
    ticks = sorted(set(lengths))
    low, high = ticks[0] / 1.19, ticks[-1] * 1.19  # a quarter of an octave of air on either side
    room = max(int(abs(end - start) / 40), 2)  # 40 pixels hold the longest label
    thinned = tuple(ticks[:: -(-len(ticks) // room)])
    return Scale(low, high, start, end, thinned, lambda value: tokens(round(value)), log=True)


def span_scale(values: Sequence[float], start: float, end: float) -> Scale:
    """Place steps or tokens from 0 on."""
    room = max(int(abs(end - start) / 70), 2)
    high = max(*values, 1.0)
    ticks = tuple(tick for tick in nice_ticks(0, high, room) if tick <= high * 1.0001)
    return Scale(0, high, start, end, ticks)


def value_scale(values: Sequence[float], start: float, end: float) -> Scale:
    """Place measured values: linear between round numbers, or logarithmic where they differ a lot."""
    low, high = min(values), max(values)
    if low > 0 and high / low > _WIDE:
        ticks = _decade_ticks(low, high)
        return Scale(min(low, ticks[0]), max(high, ticks[-1]), start, end, ticks, log=True)
    ticks = nice_ticks(low, high, 5)
    return Scale(ticks[0], ticks[-1], start, end, ticks)


def nice_ticks(low: float, high: float, count: int) -> tuple[float, ...]:
    """Return about `count` round numbers that enclose the range: steps of 1, 2 or 5 times a power of ten."""
    if high <= low:
        room = abs(low) * 0.1 or 0.5
        # What is never negative, such as an accuracy of 0, has no room below 0.
        low, high = low - (room if low else 0), high + room
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = min((size * power for size in (1, 2, 5, 10)), key=lambda size: abs(math.log(size / rough)))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return tuple(float(f"{index * step:.12g}") for index in range(first, last + 1))


def _decade_ticks(low: float, high: float) -> tuple[float, ...]:
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    sizes = (1, 2, 5) if len(powers) <= 4 else (1,)
    every = [size * 10.0**power for power in powers for size in sizes]
    below = max((tick for tick in every if tick <= low), default=every[0])
    above = min((tick for tick in every if tick >= high), default=every[-1])
    return tuple(tick for tick in every if below <= tick <= above)
