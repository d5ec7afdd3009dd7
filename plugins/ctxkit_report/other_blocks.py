"""What a terminal shows of the evals beside perplexity and passkey: a few metrics of each, by length."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ctxkit_report.comparison import METRICS, Block, Row
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
    known = {metric.task for metric in METRICS}
    others = [item for item in comparison.run.evals if item.report.task not in known and comparison.role(item.stage)]
    for place in dict.fromkeys((item.number, item.report.task) for item in others):
        found = [item for item in others if (item.number, item.report.task) == place]
        twice = len({item.number for item in others if item.report.task == place[1]}) > 1
        name = f"{place[1]}, eval {place[0] + 1}" if twice else place[1]
        for metric in _metrics(found)[:MOST]:
            yield Block(f"{name}: {metric}", tuple(_rows(comparison, found, metric)))


def _metrics(found: Sequence[StageEval]) -> list[str]:
    return list(dict.fromkeys(item.metric for each in found for item in _pooled(each)))


def _pooled(item: StageEval) -> Iterator[Measurement]:
    return (each for each in item.report.measurements if each.depth is None and each.positions is None)


def _rows(comparison: Comparison, found: Sequence[StageEval], metric: str) -> Iterator[Row]:
    values = {(each.stage, item.length): item for each in found for item in _pooled(each) if item.metric == metric}
    for length in sorted({length for _, length in values}):
        items = [values.get((column.stage, length)) for column in comparison.columns]
        cells = tuple(estimate(item) if item else None for item in items)
        yield Row(length, comparison.note(length), cells, count_range([cell.count for cell in cells if cell]))
