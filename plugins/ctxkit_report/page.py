"""Render the report of a run and put it in place in one step."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ctxkit_report.charts import LossChart, loss_chart, passkey_panels, perplexity_charts
from ctxkit_report.collect import Run, collect
from ctxkit_report.comparison import compare, control_note
from ctxkit_report.figures import heat_scale, line_chart
from ctxkit_report.headline import headline, status_note
from ctxkit_report.ledgers import ledgers
from ctxkit_report.notation import SPACE
from ctxkit_report.other_charts import other_charts
from ctxkit_report.phases import phase_tables
from ctxkit_report.publish import fill, publish
from ctxkit_report.tables import flatten, method_rows, other_evals, training_rows

if TYPE_CHECKING:
    from pathlib import Path

_WIDE, _NARROW = 928, 350
"""Pixels: the text column of the page, and of a phone."""
_ESTIMATE = re.compile(rf"([^ ]+){SPACE}(\[[^\]]*\])")


def write_report(run_dir: Path) -> Path:
    """Write `report.html` into a run directory, finished or not, and return its path.

    A reader never sees half a page: it is written beside its place and then moved.
    Raises CtxkitError where `run_dir` is not a directory and DiskError where the page cannot be written.
    """
    target = run_dir / "report.html"
    publish(target, render(collect(run_dir), has_data_page=(run_dir / "data.html").is_file()))
    return target


def render(run: Run, *, has_data_page: bool = False) -> str:
    """Return the page; nothing in it is fetched from elsewhere."""
    comparison = compare(run)
    claim = headline(comparison)
    return fill(
        "report.html.j2",
        run=run,
        has_data_page=has_data_page,
        comparison=comparison,
        headline=claim,
        sentences=[_parts(sentence) for sentence in claim.sentences],
        status_note=status_note(run.status),
        control_note=control_note(run),
        blocks=comparison.blocks(),
        perplexity=[(chart, line_chart(chart)) for chart in perplexity_charts(comparison)],
        panels=passkey_panels(comparison),
        heat_scale=heat_scale(),
        loss=_loss(loss_chart(comparison)),
        training=training_rows(comparison),
        phases=phase_tables(run.stages),
        ledgers=ledgers(run.data),
        other=other_evals(comparison),
        other_charts=[(chart, line_chart(chart)) for chart in other_charts(run)],
        methods=method_rows(run),
        provenance=tuple(flatten(run.provenance)),
    )


def _parts(sentence: str) -> list[tuple[str, str]]:
    """Split a sentence into plain text, values and their intervals, which are set apart in type."""
    kinds = ("text", "value", "interval")
    return [(kinds[place % 3], part) for place, part in enumerate(_ESTIMATE.split(sentence))]


def _loss(loss: LossChart | None) -> dict[str, object] | None:
    """Draw the loss twice: the style sheet shows the one that fits the screen."""
    if loss is None:
        return None
    wide = line_chart(loss.chart, _WIDE, 340)
    return {"wide": wide, "narrow": line_chart(loss.chart, _NARROW, 300), "about": loss}
