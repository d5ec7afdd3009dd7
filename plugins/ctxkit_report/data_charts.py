"""Turn prepared data into charts: where the tokens of each source went, and how long documents and rows are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ctxkit_report.figures import BarChart, Bars
from ctxkit_report.lengths import histograms, pooled
from ctxkit_report.notation import tokens
from ctxkit_report.visible import label

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ctxkit_report.lengths import Axis, Histogram
    from ctxkit_report.prepared import Prepared, Source


def ledger_chart(sets: Iterable[Prepared]) -> BarChart | None:
    """Chart the tokens of every source: trained, masked, left out."""
    sources = [(item, source) for item in sets for source in item.sources if source.trained is not None]
    if not sources:
        return None
    parts = (
        ("trained", "extended", [source.trained or 0 for _, source in sources]),
        ("masked: read, not trained", "other-2", [source.masked or 0 for _, source in sources]),
        ("dropped", "control", [sum(source.dropped.values()) for _, source in sources]),
        ("set aside for evaluation", "other-1", [source.evaluation or 0 for _, source in sources]),
        ("unused", "before", [source.unused or 0 for _, source in sources]),
    )
    bars = tuple(Bars(name, style, tuple(values)) for name, style, values in parts if any(values))
    names = tuple(_named(item, source) for item, source in sources)
    return BarChart("Tokens by source", names, bars, "source", "tokens", stacked=True)


def length_charts(sets: Iterable[Prepared]) -> tuple[BarChart, ...]:
    """Chart, for each data set, the share of its tokens in documents and in training rows of each length."""
    return tuple(chart for item in sets if (chart := _lengths(item)))


def _lengths(item: Prepared) -> BarChart | None:
    axis, found = histograms(item)
    bars = tuple(
        Bars(unit, style, _shares(pooled(found, unit, unit)))
        for unit, style in (("documents", "before"), ("rows", "extended"))
        if any(each.unit == unit for each in found)
    )
    if not bars:
        return None
    title = f"Lengths, {_stages(item)}"
    least = tuple(tokens(axis.least(place)) for place in range(axis.count))
    return BarChart(title, _names(axis), bars, "length from (tokens)", "% of the tokens", ticks=least)


def _shares(found: Histogram) -> tuple[float, ...]:
    total = found.total.tokens
    return tuple(round(100 * column.tokens / total, 2) if total else 0.0 for column in found.columns)


def _names(axis: Axis) -> tuple[str, ...]:
    return tuple(axis.range(place) for place in range(axis.count))


def _named(item: Prepared, source: Source) -> str:
    return f"{label(source.label)} ({_stages(item)})"


def _stages(item: Prepared) -> str:
    return ", ".join(label(stage) for stage in item.stages) or "used by no stage"
