"""What an eval reports: measurements with their intervals, the samples behind them, and what could not be measured.

The words are those of Inspect (UK AI Security Institute): a task, its samples with input, target, output and score, and
metadata. `docs/evals.schema.json` describes the files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Measurement:
    """One number with its 95 % interval and the count of samples behind it."""

    metric: str
    """Such as `perplexity` or `accuracy`; one report may hold several."""
    length: int
    """Context length in tokens; 0 where a task has none."""
    value: float
    low: float
    high: float
    count: int
    """Samples: windows, prompts, documents."""
    depth: float | None = None
    """Place of the needle, 0 at the front and 1 at the end of the context; None where there is none."""
    positions: tuple[int, int] | None = None
    """The first position that it covers and the one after the last, in tokens from the front; None for all."""


@dataclass(frozen=True)
class Sample:
    """One prompt or window with its score, so that two models can be compared pair by pair."""

    id: str
    """The same for the same prompt, whatever the model."""
    length: int
    score: float
    depth: float | None = None
    input: str = ""
    """What was asked, in short: the end of the prompt, not its context."""
    target: str = ""
    """What a right answer says."""
    output: str = ""
    """What the model wrote."""
    metadata: Mapping[str, str | int | float] = field(default_factory=dict)
    """What else is known of it, such as the place of the answer."""


@dataclass(frozen=True)
class EvalReport:
    """The outcome of one eval on one model."""

    task: str
    """The kind of the eval, such as `passkey`."""
    measurements: tuple[Measurement, ...]
    samples: tuple[Sample, ...] = ()
    metadata: Mapping[str, str | int | float] = field(default_factory=dict)
    """How it was measured: seed, interval method, prompt hash."""
    failures: Mapping[str, str] = field(default_factory=dict)
    """Why a cell could not be measured, by its name; the others were."""

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> EvalReport:
        """Return the report that `to_json` wrote."""
        return cls(
            task=data["task"],
            measurements=tuple(_measurement(item) for item in data["measurements"]),
            samples=tuple(Sample(**item) for item in data["samples"]),
            metadata=data["metadata"],
            failures=data.get("failures", {}),
        )


def _measurement(item: Mapping[str, Any]) -> Measurement:
    positions = item.get("positions")
    return Measurement(**{**item, "positions": tuple(positions) if positions else None})
