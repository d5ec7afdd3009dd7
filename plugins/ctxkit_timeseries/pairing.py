"""The arms of a sweep compared series by series: all of them forecast the same ones."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from ctxkit.spec.intervals import bootstrap_mean

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    Errors = dict[str, dict[str, list[float]]]
    """Of one context length: by arm and series, the error of each seed."""

SEEDS = ("seed", "data_seed")
"""Last words of paths whose values are repetitions of the same arm; they are averaged."""


def paired(sweep_dir: Path) -> str | None:
    """Return how much less each arm errs than the first, by context length; None without two arms that forecast."""
    about = json.loads((sweep_dir / "sweep.json").read_text(encoding="utf-8"))
    errors: dict[int, Errors] = {}
    for point in about["points"]:
        if point["status"] == "done":
            _gather(errors, _arm(point["values"]), sweep_dir / point["name"])
    lines = [line for length in sorted(errors) for line in _compared(length, errors[length])]
    if not lines:
        return None
    first = next(iter(errors[min(errors)]))
    head = f"forecast: mean absolute error less than with {first}, series by series, seeds averaged, 95 % over series"
    return "\n".join([head, *lines])


def _arm(values: Mapping[str, Any]) -> str:
    """Return what a point is called without its seeds."""
    kept = {key: value for key, value in values.items() if key.rpartition(".")[2] not in SEEDS}
    return ", ".join(f"{key} {value}" for key, value in kept.items())


def _gather(errors: dict[int, Errors], arm: str, run_dir: Path) -> None:
    result = json.loads((run_dir / "run.json").read_text(encoding="utf-8"))["result"]
    for file in sorted((run_dir / "evals" / result).glob("*.json")):
        report = json.loads(file.read_text(encoding="utf-8"))
        for sample in report["samples"] if report["task"] == "forecast" else ():
            scores = errors.setdefault(sample["length"], {}).setdefault(arm, {})
            scores.setdefault(sample["id"], []).append(sample["score"])


def _compared(length: int, errors: Errors) -> Iterator[str]:
    """Yield a line for each arm but the first, over the series that both forecast."""
    first, *others = errors
    for arm in others:
        both = [name for name in errors[first] if name in errors[arm]]
        if both:
            less = _means(errors[first], both) - _means(errors[arm], both)
            low, high = bootstrap_mean(less, seed=0)
            said = f"{less.mean():.4f} [{low:.4f}, {high:.4f}], {len(both)} series"
            yield f"  {length:,} tokens of history, {arm}: {said}"


def _means(scores: Mapping[str, Sequence[float]], names: Sequence[str]) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array([np.mean(scores[name]) for name in names])
