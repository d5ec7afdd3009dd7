"""Render the report of a run and put it in place in one step."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ctxkit_report.charts import CURVES, LOSS, curve_chart, heat_charts, perplexity_charts, position_charts
from ctxkit_report.collect import Run, collect
from ctxkit_report.comparison import PASSKEY, Comparison, compare, control_note
from ctxkit_report.data_charts import ledger_chart, length_charts
from ctxkit_report.examples import examples
from ctxkit_report.gallery import Gallery
from ctxkit_report.headline import headline, status_note
from ctxkit_report.ledgers import ledgers
from ctxkit_report.notation import SPACE
from ctxkit_report.other_charts import other_charts, other_tasks
from ctxkit_report.paired import NOTE, paired_rows
from ctxkit_report.phases import phase_tables
from ctxkit_report.publish import fill, publish
from ctxkit_report.tables import failures, flatten, method_rows, other_evals, training_rows

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ctxkit_report.figures import Chart

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
    gallery = Gallery()
    return fill(
        "report.html.j2",
        run=run,
        has_data_page=has_data_page,
        comparison=comparison,
        headline=claim,
        sentences=[parts(sentence) for sentence in claim.sentences],
        status_note=status_note(run.status),
        yet=" yet" if run.status == "running" else "",
        control_note=control_note(run),
        blocks=comparison.blocks(),
        training=training_rows(comparison),
        phases=phase_tables(run.stages),
        ledgers=ledgers(run.data),
        other=other_evals(comparison),
        methods=method_rows(run),
        failures=failures(run),
        paired=paired_rows(comparison),
        paired_note=NOTE,
        examples=examples(comparison),
        provenance=tuple(flatten(run.provenance)),
        **_figures(comparison, gallery),
        **gallery.parts(live=run.status == "running"),
    )


def _figures(comparison: Comparison, gallery: Gallery) -> dict[str, object]:
    """Draw every figure in the order of the page."""
    run = comparison.run
    charts: dict[str, Sequence[Chart]] = {
        "perplexity": perplexity_charts(comparison),
        "positions": position_charts(comparison),
        "panels": heat_charts(comparison, PASSKEY.task),
        "other_charts": other_charts(comparison),
        "other_panels": [chart for task in other_tasks(run) for chart in heat_charts(comparison, task)],
        "loss": _present([curve_chart(comparison, LOSS)]),
        "curves": _present([curve_chart(comparison, curve) for curve in CURVES]),
        "ledger_charts": _present([ledger_chart(run.data)]),
        "length_charts": length_charts(run.data),
    }
    return {name: [gallery.add(chart) for chart in found] for name, found in charts.items()}


def _present(charts: Sequence[Chart | None]) -> list[Chart]:
    return [chart for chart in charts if chart is not None]


def parts(sentence: str) -> list[tuple[str, str]]:
    """Split a sentence into plain text, values and their intervals, which are set apart in type."""
    kinds = ("text", "value", "interval")
    return [(kinds[place % 3], part) for place, part in enumerate(_ESTIMATE.split(sentence))]
