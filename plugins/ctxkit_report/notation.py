"""How numbers are written: estimates with intervals, counts, durations, RoPE settings."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ctxkit.spec import Measurement

NONE = "\N{EN DASH}"
"""Stands where nothing was measured."""
TIMES = "\N{MULTIPLICATION SIGN}"
SPACE = "\N{NO-BREAK SPACE}"
"""Keeps a number and its unit or interval on one line."""
_KIBI = 1024
_MEBI = 1024 * 1024
_MINUTE = 60
_HOUR = 3600
_LONGEST = 7
"""Decimals from which on a number is written with an exponent."""
_PLAIN = str.maketrans({SPACE: " ", TIMES: "x", NONE: "-", "≥": ">=", "…": "...", "∞": "inf"})


@dataclass(frozen=True)
class Estimate:
    """A value and its 95 % interval as a person reads them."""

    value: str
    interval: str
    count: int

    def __str__(self) -> str:
        """Return `88 % [80, 93]`, which no line break divides."""
        return f"{self.value}{SPACE}{self.interval}"


def estimate(measurement: Measurement) -> Estimate:
    """Write an accuracy between 0 and 1 in percent, and anything else with digits that suit its size."""
    bounds = (measurement.value, measurement.low, measurement.high)
    if measurement.metric == "accuracy" and 0 <= measurement.value <= 1:
        digits = _percent_digits(measurement.value)
        value, low, high = (_fixed(100 * bound, digits) for bound in bounds)
        return Estimate(f"{value}{SPACE}%", f"[{low},{SPACE}{high}]", measurement.count)
    digits = _digits(measurement.value) if measurement.value else max(_digits(measurement.high) - 1, 0)
    value, low, high = (_fixed(bound, digits) for bound in bounds)
    return Estimate(value, f"[{low},{SPACE}{high}]", measurement.count)


def overlap(one: Measurement, other: Measurement) -> bool:
    """Return whether the intervals of two measurements meet."""
    return one.low <= other.high and other.low <= one.high


def number(value: float | None) -> str:
    """Write a number with digits that suit its size, and a dash for None."""
    if value is None:
        return NONE
    return f"{value:,}" if isinstance(value, int) else _fixed(value, _digits(value))


def tokens(length: int) -> str:
    """Write a context length: `512`, `4096`, and from 16384 on in units of 1024, such as `16k`; 0 stands for none."""
    if length == 0:
        return NONE
    if length >= _MEBI and length % _MEBI == 0:
        return f"{length // _MEBI}M"
    return f"{length // _KIBI}k" if length >= 16 * _KIBI and length % _KIBI == 0 else str(length)


def compact(value: float) -> str:
    """Write an axis label such as `250k` (thousands), `1.5M` or `0.2`."""
    for size, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / (1e3 if unit == 'k' else size):.6g}{unit}"
    return f"{value:.6g}"


def rough(value: int) -> str:
    """Write a count with three digits that matter: `999`, `12.3k` (thousands), `1.2M`."""
    for size, unit in ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "k")):
        if value >= 0.9995 * size and value >= 10**4:
            return f"{value / size:.3g}{unit}"
    return f"{value:,}"


def percent(part: float, total: float) -> str:
    """Write a share in percent; only nothing is 0 % and only all is 100 %."""
    if total <= 0:
        return NONE
    share = 100 * part / total
    if 0 < share < 0.1:  # the last digit that is written
        return f"<0.1{SPACE}%"
    if 99.95 <= share < 100:  # what would round up
        return f">99.9{SPACE}%"
    digits = 1 if share % 100 and (share < 10 or share > 99) else 0  # two digits suffice between
    return f"{share:.{digits}f}{SPACE}%"


def duration(seconds: float | None) -> str:
    """Write seconds as `25 s`, `12 min 5 s` or `3 h 20 min`."""
    if seconds is None or not math.isfinite(seconds):
        return NONE
    whole = round(seconds)
    if whole >= _HOUR:
        return f"{whole // _HOUR:,} h {whole % _HOUR // _MINUTE} min".replace(" ", SPACE)
    if whole >= _MINUTE:
        return f"{whole // _MINUTE} min {whole % _MINUTE} s".replace(" ", SPACE)
    return f"{seconds:.3g} s".replace(" ", SPACE)


def flops(count: float | None) -> str:
    """Write floating-point operations with two digits: `2.1e15`; a dash for none."""
    return f"{count:.1e}".replace("e+", "e") if count and math.isfinite(count) else NONE


def rope(setting: Mapping[str, Any] | None) -> str:
    """Write a RoPE setting in one line: `yarn, factor 4, window 512`."""
    if setting is None:
        return NONE
    rest = [f"{key} {_scalar(value)}" for key, value in setting.items() if key != "kind" and value is not None]
    return ", ".join([str(setting.get("kind", "scaled")), *rest])


def count_range(counts: list[int]) -> str:
    """Write the sample counts of several estimates: one number, or the least and the greatest."""
    if not counts:
        return NONE
    return f"{min(counts):,}" if min(counts) == max(counts) else f"{min(counts):,}{NONE}{max(counts):,}"


def plain(text: str) -> str:
    """Return text for any terminal: no typographic and no control characters, one line."""
    flat = " ".join(text.translate(_PLAIN).split())
    return "".join(char if char.isprintable() else "?" for char in flat)


def _scalar(value: object) -> str:
    if isinstance(value, str):
        return value
    return f"{value:g}" if isinstance(value, float) else json.dumps(value, default=str)


def _digits(value: float) -> int:
    """Keep three significant digits below a thousand."""
    if not math.isfinite(value) or value == 0:
        return 0
    return max(2 - math.floor(math.log10(abs(value))), 0)


def _percent_digits(value: float) -> int:
    rounded = round(100 * value)
    return 1 if rounded in {0, 100} and 100 * value != rounded else 0


def _fixed(value: float, digits: int) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    return f"{value:,.{digits}f}" if digits < _LONGEST else f"{value:.3g}"
