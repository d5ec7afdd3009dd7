"""What a terminal shows of the evals beside those that are compared: a few metrics of each, by length."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ctxkit_report.comparison import Block, Row
from ctxkit_report.notation import count_range, estimate

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ctxkit.spec import Measurement
    from ctxkit_report.collect import StageEval
    from ctxkit_report.comparison import Comparison

MOST = 3
"""Metrics of one eval; the page shows all."""


def other_blocks(comparison: Comparison) -> Iterator[Block]:
    """Yield a block for each of the first metrics of every other eval, over all depths."""
    others = [item for item in comparison.run.evals if comparison.role(item.stage)]
    for place in dict.fromkeys((item.number, item.report.task) for item in others):
        found = [item for item in others if (item.number, item.report.task) == place]
        name = comparison.run.named(found[0])
        for metric in _metrics(comparison, found)[:MOST]:
            yield Block(f"{name}: {metric}", tuple(_rows(comparison, found, metric)))


def _metrics(comparison: Comparison, found: Sequence[StageEval]) -> list[str]:
    measured = ((each, item.metric) for each in found for item in _pooled(each))
    return list(dict.fromkeys(metric for each, metric in measured if not comparison.holds(each, metric)))


def _pooled(item: StageEval) -> Iterator[Measurement]:
    return (each for each in item.report.measurements if each.depth is None and each.positions is None)


def _rows(comparison: Comparison, found: Sequence[StageEval], metric: str) -> Iterator[Row]:
    values = {(each.stage, item.length): item for each in found for item in _pooled(each) if item.metric == metric}
    for length in sorted({length for _, length in values}):
        items = [values.get((column.stage, length)) for column in comparison.columns]
        cells = tuple(estimate(item) if item else None for item in items)
        yield Row(length, comparison.note(length), cells, count_range([cell.count for cell in cells if cell]))
