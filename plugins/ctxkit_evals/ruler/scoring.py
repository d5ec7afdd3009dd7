"""How RULER judges: the share of the answers that the output holds, upper and lower case alike."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from ctxkit.spec import Measurement
from ctxkit.spec.intervals import bootstrap_mean, wilson

if TYPE_CHECKING:
    from collections.abc import Sequence

CONTROL = re.compile(r"[\x00-\x1f]")


def cleaned(output: str) -> str:
    """Return an output as RULER judges it: stripped, every control character a line end."""
    return CONTROL.sub("\n", output.strip()).strip()


def share_found(output: str, answers: Sequence[str]) -> float:
    """Return the share of the answers that stand in an output: one sample of RULER's `string_match_all`."""
    low = cleaned(output).lower()
    return sum(answer.lower() in low for answer in answers) / len(answers)


def percent(shares: Sequence[float]) -> float:
    """Return the mean of shares in percent, with the two decimals that RULER gives."""
    return round(sum(shares) / len(shares) * 100, 2)


def measured(metric: str, length: int, shares: Sequence[float], seed: int) -> Measurement:
    """Return the score of a task, in percent.

    Its interval is Wilson's where each sample is right or wrong, and also where all score the same, since a bootstrap
    would take them for certain; else it is the bootstrap over samples.
    """
    plain = set(shares) <= {0.0, 1.0} or len(set(shares)) == 1
    low, high = wilson(sum(shares), len(shares)) if plain else bootstrap_mean(shares, seed)
    value = percent(shares)
    return Measurement(metric, length, value, min(low * 100, value), max(high * 100, value), len(shares))


def average(metric: str, tasks: Sequence[Measurement]) -> Measurement:
    """Return the plain mean over tasks of one length, as RULER has it.

    The tasks are independent, so the distances to the bounds of their intervals add up in squares (Zou and Donner 2008,
    for a sum).
    """
    value = sum(task.value for task in tasks) / len(tasks)
    below = math.hypot(*(task.value - task.low for task in tasks)) / len(tasks)
    above = math.hypot(*(task.high - task.value for task in tasks)) / len(tasks)
    count = sum(task.count for task in tasks)
    return Measurement(metric, tasks[0].length, value, value - below, value + above, count)


def longest_at(threshold: float, averages: Sequence[Measurement]) -> int:
    """Return the longest length whose average is at or above a threshold, in tokens; 0 where none is.

    As in the paper, a shorter length below the threshold changes nothing.
    """
    return max((found.length for found in averages if found.value >= threshold), default=0)
