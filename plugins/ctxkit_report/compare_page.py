"""Render the comparison of several runs as one self-contained page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ctxkit_report.comparison import PASSKEY, TAIL, WHOLE, Metric
from ctxkit_report.gallery import Gallery
from ctxkit_report.notation import estimate, overlap
from ctxkit_report.paired import NOTE, pairs
from ctxkit_report.publish import fill, publish
from ctxkit_report.rivals import Rival, differences, losses, overlaid, paired, rivals, tables

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
    """Say which run is ahead in the first main metric that was measured, if one is beyond chance."""
    for metric, length, values in _main(found):
        (first, best), (second, next_best) = values[:2]
        same = pairs(second.report(metric.task), first.report(metric.task), length)
        ahead = same.clear if same and metric is not TAIL else not overlap(best, next_best)
        if ahead:
            return f"{first.name} is ahead in {metric.phrase} at {length} tokens"
        return f"No run is clearly ahead in {metric.phrase} at {length} tokens"
    return f"{len(found)} runs compared"


def summary(found: Sequence[Rival]) -> Iterator[str]:
    """Yield a sentence for each main metric, at the longest length within a window that all of them measured."""
    for metric, length, values in _main(found):
        said = ", ".join(f"{rival.name} {estimate(item)}" for rival, item in values)
        yield f"At {length} tokens {metric.phrase}, best first: {said}."


def _main(found: Sequence[Rival]) -> Iterator[tuple[Metric, int, list[tuple[Rival, Measurement]]]]:
    """Yield each main metric that several runs measured, with the length that tells and the values, best first."""
    for metric in (PASSKEY, TAIL, WHOLE):
        measured = [(rival, rival.measured(metric.task, metric.name)) for rival in found]
        present = [(rival, items) for rival, items in measured if items]
        common = set.intersection(*(set(items) for _, items in present)) if len(present) > 1 else set()
        if common:
            length = _telling(found, common)
            values = [(rival, items[length]) for rival, items in present]
            yield metric, length, sorted(values, key=lambda pair: pair[1].value, reverse=metric.rising)


def _telling(found: Sequence[Rival], lengths: set[int]) -> int:
    window = max((rival.comparison.window or rival.comparison.original or 0 for rival in found), default=0)
    return max([length for length in lengths if length <= window] or lengths)
