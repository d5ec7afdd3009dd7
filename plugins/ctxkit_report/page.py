"""Render the report of a run and put it in place in one step."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from ctxkit.errors import DiskError
from ctxkit_report.charts import LossChart, loss_chart, passkey_panels, perplexity_charts
from ctxkit_report.collect import Run, collect
from ctxkit_report.comparison import compare, control_note
from ctxkit_report.figures import heat_scale, line_chart
from ctxkit_report.headline import headline, status_note
from ctxkit_report.notation import SPACE
from ctxkit_report.tables import flatten, ledgers, method_rows, other_evals, training_rows

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
    page = render(collect(run_dir)).encode("utf-8", "replace")
    target = run_dir / "report.html"
    draft = run_dir / f".report.{os.getpid()}.html"
    try:
        draft.write_bytes(page)
        os.replace(draft, target)  # noqa: PTH105 - the same call, by the name that says it is atomic
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise DiskError(
            f"cannot write {target}: {error.strerror or error}", "free some space or mend the rights"
        ) from error
    return target


def render(run: Run) -> str:
    """Return the page; nothing in it is fetched from elsewhere."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("ctxkit_report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    comparison = compare(run)
    claim = headline(comparison)
    return environment.get_template("report.html.j2").render(
        run=run,
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
        ledgers=ledgers(run),
        other=other_evals(comparison),
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
