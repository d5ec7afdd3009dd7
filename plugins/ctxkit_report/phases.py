"""Turn what a stage recorded of its curriculum into a table: one row for each pass over the rows of a phase."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ctxkit_report.notation import NONE, number
from ctxkit_report.reading import counts, dicts, real, text, whole

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ctxkit_report.collect import Stage


@dataclass(frozen=True)
class PhaseRow:
    """One pass over the rows of a phase, written out."""

    phase: str
    steps: str
    lengths: str
    """Tokens of its shortest and longest row."""
    window: str
    learning_rate: str
    """The multiplier."""
    rows: str
    difficulty: str
    train_loss: str
    eval_loss: str
    grad_norm: str
    """Least, mean and greatest."""


@dataclass(frozen=True)
class PhaseTable:
    """The phases of one stage."""

    stage: str
    rows: tuple[PhaseRow, ...]
    said: str
    """Rows served, repeated and left out."""
    windowed: bool
    graded: bool
    """Whether any row has a difficulty worth a column."""
    validated: bool


def phase_tables(stages: Iterable[Stage]) -> tuple[PhaseTable, ...]:
    """Write out every stage that had a curriculum."""
    return tuple(_table(stage.name, stage.curriculum) for stage in stages if stage.curriculum is not None)


def _table(stage: str, made: Mapping[str, Any]) -> PhaseTable:
    rows = tuple(_row(item) for item in dicts(made.get("phases")))
    return PhaseTable(
        stage,
        rows,
        _account(made),
        windowed=any(row.window != NONE for row in rows),
        graded=any("," in row.difficulty for row in rows),
        validated=any(row.eval_loss != NONE for row in rows),
    )


def _row(item: Mapping[str, Any]) -> PhaseRow:
    epoch = whole(item.get("epoch"))
    return PhaseRow(
        phase=text(item.get("phase")) + (f", pass {epoch}" if epoch and epoch > 1 else ""),
        steps=_span([item.get("first_step"), item.get("last_step")]),
        lengths=_span(item.get("length")),
        window=_span(item.get("window")),
        learning_rate=_span(item.get("learning_rate")),
        rows=number(whole(item.get("examples"))),
        difficulty=_difficulty(counts(item.get("difficulty"))),
        train_loss=_loss(item, "train_loss", "perplexity"),
        eval_loss=_loss(item, "eval_loss", "eval_perplexity"),
        grad_norm=_norms(item.get("grad_norm")),
    )


def _account(made: Mapping[str, Any]) -> str:
    """Say how many rows were served how often, and what was left out."""
    rows, left_out, cut = (whole(made.get(key)) or 0 for key in ("rows", "rows_left_out", "rows_cut"))
    said = [f"{rows - left_out:,} of {rows:,} rows served, {whole(made.get('rows_served')) or 0:,} times in all"]
    if left_out:
        said.append(f"{whole(made.get('tokens_left_out')) or 0:,} tokens left out with the others")
    if cut:
        said.append(f"{cut:,} cut at the ends of phases, where they filled no step")
    skipped = made.get("skipped")
    if isinstance(skipped, dict) and skipped:
        said.append("skipped: " + ", ".join(f"{name} ({why})" for name, why in skipped.items()))
    return "; ".join(said)


def _difficulty(rows: Mapping[str, int]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {held:,}" for name, held in rows.items() if held) or NONE


def _span(value: object) -> str:
    """Write one number, or the first and the last of several where they differ."""
    found = [each for each in map(real, value if isinstance(value, list) else [value]) if each is not None]
    ends = dict.fromkeys([found[0], found[-1]] if found else [])
    return " to ".join(f"{end:,.6g}" for end in ends) or NONE


def _loss(item: Mapping[str, Any], loss: str, perplexity: str) -> str:
    nats, ratio = real(item.get(loss)), real(item.get(perplexity))
    return NONE if nats is None else f"{nats:.3f}" + (f" ({number(ratio)})" if ratio is not None else "")


def _norms(value: object) -> str:
    if not isinstance(value, dict):
        return NONE
    found = [real(value.get(key)) for key in ("min", "mean", "max")]
    return NONE if None in found else " · ".join(f"{norm:.3g}" for norm in found if norm is not None)
