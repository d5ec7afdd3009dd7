"""Which stages a run compares, at which windows, and the table that sets them side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ctxkit_report.notation import Estimate, count_range, estimate, number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ctxkit.spec import Measurement
    from ctxkit_report.collect import Run, Stage, StageEval


@dataclass(frozen=True)
class Metric:
    """A number that is compared between stages."""

    task: str
    name: str
    title: str
    phrase: str
    """As it stands within a sentence."""
    unit: str
    """What a sample is, in the plural."""
    rising: bool
    """Whether more is better."""


PASSKEY = Metric("passkey", "accuracy", "Passkey accuracy", "passkey accuracy", "prompts", rising=True)
WHOLE = Metric("perplexity", "perplexity", "Perplexity, all tokens", "perplexity (all tokens)", "texts", rising=False)
TAIL = Metric(
    "perplexity", "perplexity_tail", "Perplexity, last quarter", "perplexity (last quarter)", "texts", rising=False
)
METRICS = (PASSKEY, WHOLE, TAIL)


@dataclass(frozen=True)
class Column:
    """A stage and the part it plays: before, control, and extended; where nothing was extended trained, or model."""

    role: str
    stage: str

    @property
    def title(self) -> str:
        """The role as a heading."""
        return self.role.capitalize()


@dataclass(frozen=True)
class Row:
    """One context length: an estimate for each column, None where nothing was measured."""

    length: int
    note: str
    cells: tuple[Estimate | None, ...]
    count: str


@dataclass(frozen=True)
class Block:
    """One metric over all lengths."""

    title: str
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Comparison:
    """The stages that are compared, and the windows in tokens."""

    run: Run
    columns: tuple[Column, ...]
    original: int | None
    window: int | None
    """What the result stage was extended to; None where it was not."""
    most: int | None = None
    """The window of the result; where it was not extended, its own or the longest rows that it was trained on."""

    def stage(self, role: str) -> str | None:
        """Return the name of the stage that plays a role, or None."""
        return next((column.stage for column in self.columns if column.role == role), None)

    def style(self, stage: str) -> str | None:
        """Return the name of the colour of a stage that plays a role, or None."""
        role = self.role(stage)
        return "extended" if role in {"trained", "model"} else role

    def role(self, stage: str) -> str | None:
        """Return the role that a stage plays, or None."""
        return next((column.role for column in self.columns if column.stage == stage), None)

    def pooled(self, metric: Metric, stage: str | None) -> dict[int, Measurement]:
        """Return what was measured by length, over all depths."""
        report = self.run.report(stage, metric.task)
        found = report.measurements if report else ()
        whole = (item for item in found if item.depth is None and item.positions is None)
        return {item.length: item for item in whole if item.metric == metric.name}

    def holds(self, item: StageEval, metric: str) -> bool:
        """Return whether the comparison shows a metric of an eval: of a compared stage, its first of a task."""
        known = any((each.task, each.name) == (item.report.task, metric) for each in METRICS)
        first = self.role(item.stage) is not None and self.run.report(item.stage, item.report.task) is item.report
        return known and first

    def note(self, length: int) -> str:
        """Say whether a length is one of the two windows, or more than the model was made for."""
        if length == self.original:
            return "original window"
        if length == self.window:
            return "extended window"
        return "beyond window" if self.most and length > self.most else ""

    def blocks(self) -> tuple[Block, ...]:
        """Return the table: a block for each metric that was measured."""
        blocks = (Block(metric.title, self._rows(metric)) for metric in METRICS)
        return tuple(block for block in blocks if block.rows)

    def _rows(self, metric: Metric) -> tuple[Row, ...]:
        measured = [self.pooled(metric, column.stage) for column in self.columns]
        lengths = sorted({length for column in measured for length in column})
        return tuple(self._row(length, [column.get(length) for column in measured]) for length in lengths)

    def _row(self, length: int, items: Sequence[Measurement | None]) -> Row:
        cells = tuple(estimate(item) if item else None for item in items)
        return Row(length, self.note(length), cells, count_range([cell.count for cell in cells if cell]))


def compare(run: Run) -> Comparison:
    """Find the stage before the result, the control and the result itself."""
    result = run.stage(run.result)
    if result is None:
        return Comparison(run, (), run.original_window, None)
    scaled = _scaled(run, result)
    control = _control(run, result) if scaled else None
    columns = [Column("extended" if scaled else "model" if result.steps == 0 else "trained", result.name)]
    if control:
        columns.insert(0, Column("control", control.name))
    if result.start:
        columns.insert(0, Column("before", result.start))
    window = _window(run, result) if scaled else None
    own = max(run.original_window or 0, result.length or 0)
    return Comparison(run, tuple(columns), run.original_window, window, window or own or None)


def control_note(run: Run) -> str:
    """Say what the control differs in beside the scaling, or that there is none; empty where all is fair."""
    result = run.stage(run.result)
    if result is None or not _scaled(run, result):
        return ""
    control = _control(run, result)
    if control is None:
        return (
            "This run has no control: a stage from the same weights, trained alike, without RoPE scaling. "
            "Without one, the part of the training itself cannot be told from the part of the scaling."
        )
    if (control.length, control.steps, control.data) == (result.length, result.steps, result.data):
        return ""
    if (control.length, control.steps) == (result.length, result.steps):
        return "The control was trained on other data than the extended model."
    return (
        f"The control was trained differently: {number(control.steps)} steps at length {number(control.length)}; "
        f"the extended model {number(result.steps)} steps at length {number(result.length)}."
    )


def _control(run: Run, result: Stage) -> Stage | None:
    """Prefer the stage that was trained most like the result."""
    rivals = [
        stage
        for stage in run.stages
        if stage.name != result.name and not _scaled(run, stage) and stage.start == result.start and result.start
    ]
    alike = [
        (stage.data == result.data) + (stage.length == result.length) + (stage.steps == result.steps)
        for stage in rivals
    ]
    return rivals[alike.index(max(alike))] if rivals else None


def _scaled(run: Run, stage: Stage) -> bool:
    """Whether a stage has RoPE scaling, its own or one that its weights came with."""
    seen: set[str] = set()
    current: Stage | None = stage
    while current is not None and current.name not in seen:
        if current.rope is not None:
            return True
        seen.add(current.name)
        current = run.stage(current.start)
    return False


def _window(run: Run, result: Stage) -> int | None:
    rope = result.rope or {}
    window, factor = rope.get("window"), rope.get("factor")
    if isinstance(window, int):
        return window
    if isinstance(factor, (int, float)) and run.original_window:
        return round(factor * run.original_window)
    return result.length
