"""Render the comparison of several runs as one self-contained page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ctxkit_report.asked import UNLIKE, apart
from ctxkit_report.comparison import PASSKEY, TAIL, WHOLE, Metric
from ctxkit_report.gallery import Gallery
from ctxkit_report.notation import estimate
from ctxkit_report.paired import NOTE, pairs
from ctxkit_report.publish import fill, publish
from ctxkit_report.rivals import Rival, alike, differences, losses, overlaid, paired, rivals, tables

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from ctxkit.spec import Measurement


def write_comparison(run_dirs: Sequence[Path], output: Path) -> str:
    """Write the page and return the text for the terminal.

    Raises CtxkitError where the runs share no eval and DiskError where the page cannot be written.
    """
    found = rivals(run_dirs)
    publish(output, render(found))
    said = "\n".join(summary(found)).replace("\N{NO-BREAK SPACE}", " ")
    return f"{said}\n\ncomparison: {output}"


def render(found: Sequence[Rival]) -> str:
    """Return the page; nothing in it is fetched from elsewhere."""
    gallery = Gallery()
    charts = overlaid(found)
    loss = losses(found)
    return fill(
        "compare.html.j2",
        rivals=found,
        lead=lead(found),
        sentences=list(summary(found)),
        tables=tables(found),
        paired=paired(found),
        paired_note=NOTE,
        differences=differences(found),
        figures=[gallery.add(chart) for chart in charts],
        loss=gallery.add(loss) if loss else None,
        **gallery.parts(),
    )


def lead(found: Sequence[Rival]) -> str:
    """Say which run is ahead in the first main metric in which all were asked the same, if one is beyond chance."""
    unlike = ""
    for metric, length, values in _main(found):
        where = f"{metric.phrase} at {length} tokens"
        if not _alike(metric, length, values):
            unlike = unlike or f"The runs were {UNLIKE} in {where}, so none is called ahead"
        elif _ahead(metric, length, values):
            return f"{values[0][0].name} is ahead in {where}"
        else:
            return f"No run is clearly ahead in {where}"
    return unlike or f"{len(found)} runs compared"


def summary(found: Sequence[Rival]) -> Iterator[str]:
    """Yield a sentence for each main metric, at the longest length within a window that all of them measured."""
    for metric, length, values in _main(found):
        said = ", ".join(f"{rival.name} {estimate(item)}" for rival, item in values)
        how = "best first" if _alike(metric, length, values) else f"{UNLIKE} and so not ranked"
        yield f"At {length} tokens {metric.phrase}, {how}: {said}."


def _alike(metric: Metric, length: int, values: Sequence[tuple[Rival, Measurement]]) -> bool:
    return alike([rival for rival, _ in values], metric.task, length)


def _ahead(metric: Metric, length: int, values: Sequence[tuple[Rival, Measurement]]) -> bool:
    """Whether the best differs from the next beyond chance."""
    (first, best), (second, next_best) = values[:2]
    after, before = first.report(metric.task), second.report(metric.task)
    if after is None or before is None:
        return False
    same = None if metric is TAIL else pairs(before, after, length)
    return apart((before, next_best), (after, best), same) and best.value != next_best.value


def _main(found: Sequence[Rival]) -> Iterator[tuple[Metric, int, list[tuple[Rival, Measurement]]]]:
    """Yield each main metric that several runs measured, with the length that tells and the values, best first."""
    for metric in (PASSKEY, TAIL, WHOLE):
        measured = [(rival, rival.measured(metric.task, metric.name)) for rival in found]
        present = [(rival, items) for rival, items in measured if items]
        common = set.intersection(*(set(items) for _, items in present)) if len(present) > 1 else set()
        if common:
            length = _telling(found, common)
            values = [(rival, items[length]) for rival, items in present]
            ranked = sorted(values, key=lambda pair: pair[1].value, reverse=metric.rising)
            yield metric, length, ranked if _alike(metric, length, values) else values


def _telling(found: Sequence[Rival], lengths: set[int]) -> int:
    window = max((rival.comparison.window or rival.comparison.original or 0 for rival in found), default=0)
    return max([length for length in lengths if length <= window] or lengths)
