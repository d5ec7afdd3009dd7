"""Several runs side by side: what their results were measured at, pair by pair, and what their recipes differ in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ctxkit.errors import CtxkitError
from ctxkit_report.asked import UNLIKE, asked_alike
from ctxkit_report.charts import points
from ctxkit_report.collect import Run, collect
from ctxkit_report.comparison import METRICS, Comparison, compare
from ctxkit_report.figures import LineChart, Marker, Point, Series
from ctxkit_report.notation import NONE, Estimate, count_range, estimate, tokens
from ctxkit_report.paired import PairedRow, named_pairs
from ctxkit_report.recipes import leaves, read_recipe
from ctxkit_report.visible import label

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from ctxkit.spec import EvalReport, Measurement

_STYLES = ("extended", "control", "other-0", "other-1", "other-2", "other-3", "before")


@dataclass(frozen=True)
class Rival:
    """One run of those compared."""

    name: str
    """Its own, with more where two bear the same."""
    style: str
    comparison: Comparison

    @property
    def run(self) -> Run:
        """What the run wrote."""
        return self.comparison.run

    def report(self, task: str) -> EvalReport | None:
        """Return the report of a task on the result."""
        return self.run.report(self.run.result, task)

    def measured(self, task: str, metric: str) -> Mapping[int, Measurement]:
        """Return what was measured of the result by length, over all depths and positions."""
        report = self.report(task)
        whole = (
            (item for item in report.measurements if item.depth is None and item.positions is None) if report else ()
        )
        return {item.length: item for item in whole if item.metric == metric}


@dataclass(frozen=True)
class Line:
    """One context length over all runs."""

    length: str
    cells: tuple[Estimate | None, ...]
    count: str


@dataclass(frozen=True)
class Table:
    """One metric over all lengths and runs."""

    title: str
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Difference:
    """A value of the recipe in which runs differ."""

    key: str
    values: tuple[str, ...]


def rivals(run_dirs: Sequence[Path]) -> tuple[Rival, ...]:
    """Read the runs.

    Raises CtxkitError where no eval was made on the results of two of them.
    """
    runs = [collect(run_dir) for run_dir in run_dirs]
    names = _names([run.name for run in runs], [run_dir.resolve().name for run_dir in run_dirs])
    found = tuple(
        Rival(name, _STYLES[place % len(_STYLES)], compare(run))
        for place, (name, run) in enumerate(zip(names, runs, strict=True))
    )
    if not shared(found):
        said = "; ".join(f"{rival.name}: {', '.join(sorted(_tasks(rival))) or 'none'}" for rival in found)
        hint = "measure them alike: `ctxkit eval RUN --suite ...` on each"
        raise CtxkitError(f"the runs have no eval in common ({said})", hint)
    return found


def shared(found: Sequence[Rival]) -> list[tuple[str, str]]:
    """Return every task and metric that two or more runs measured at a length in common, the known ones first."""
    every: dict[tuple[str, str], list[set[int]]] = {}
    for rival in found:
        for task, metric in _metrics(rival):
            every.setdefault((task, metric), []).append(set(rival.measured(task, metric)))
    alike = [key for key, lengths in every.items() if _meet(lengths)]
    known = [(metric.task, metric.name) for metric in METRICS]
    return sorted(alike, key=lambda key: (known.index(key) if key in known else len(known), key))


def alike(found: Sequence[Rival], task: str, length: int) -> bool:
    """Return whether all of them were asked the same at a length."""
    first, *others = (report for rival in found if (report := rival.report(task)))
    return all(asked_alike(first, other, length) for other in others)


def tables(found: Sequence[Rival]) -> tuple[Table, ...]:
    """Set what they share side by side, at every length that any of them measured."""
    return tuple(Table(title(*key), tuple(_lines(found, *key))) for key in shared(found))


def paired(found: Sequence[Rival]) -> tuple[PairedRow, ...]:
    """Test each run against the first, where both were asked the same."""
    first = found[0]
    tasks = dict.fromkeys(task for task, _ in shared(found))
    rows = []
    for task in tasks:
        base = first.report(task)
        lengths = sorted({sample.length for sample in base.samples}) if base else []
        for length in lengths:
            for rival in found[1:]:
                models = f"{first.name} → {rival.name}"
                rows += [
                    PairedRow(name, tokens(length), models, f"{same.count:,}", str(same))
                    for name, same in named_pairs(task, base, rival.report(task), length)
                ]
    return tuple(rows)


def differences(found: Sequence[Rival]) -> tuple[Difference, ...]:
    """Return the values in which the recipes differ; what only says what a run is called is left out."""
    every = [leaves(read_recipe(rival.run.recipe)) for rival in found]
    keys = dict.fromkeys(key for values in every for key in values)
    rows = (Difference(key, tuple(label(values.get(key, NONE), 200) for values in every)) for key in keys)
    return tuple(row for row in rows if len(set(row.values)) > 1 and row.key not in {"name", "description"})


def overlaid(found: Sequence[Rival]) -> tuple[LineChart, ...]:
    """Chart each shared metric by length, a line for each run."""
    charts = []
    for task, metric in shared(found):
        series = tuple(
            Series(rival.name, rival.style, line)
            for rival in found
            if (line := points(rival.measured(task, metric).values()))
        )
        if len({point.x for each in series for point in each.points}) > 1:
            axis = "context length (tokens, log scale)"
            markers = _windows(found)
            share = metric == "accuracy"
            charts.append(LineChart(title(task, metric), axis, metric, series, "length", markers, percent=share))
    return tuple(charts)


def losses(found: Sequence[Rival]) -> LineChart | None:
    """Chart the training loss of the result of each run over its own steps."""
    series = tuple(
        Series(rival.name, rival.style, tuple(Point(item.step, item.value) for item in logged))
        for rival in found
        if (logged := rival.run.losses.get(rival.run.result or ""))
    )
    about = "Of the result stage, over its own steps. Other data or lengths are not comparable by loss alone."
    return LineChart("Training loss", "steps", "loss", series, about=about, ratios=True) if series else None


def title(task: str, metric: str) -> str:
    """Name a metric as a heading."""
    known = next((each.title for each in METRICS if (each.task, each.name) == (task, metric)), None)
    return known or label(f"{task}: {metric}")


def _names(own: Sequence[str], folders: Sequence[str]) -> list[str]:
    """Return names that tell the runs apart: their own, else with the folder, else with the place."""
    short = [label(name, 40) for name in own]
    longer = [f"{name} ({label(folder, 40)})" for name, folder in zip(short, folders, strict=True)]
    numbered = [f"{place}: {name}" for place, name in enumerate(short, 1)]
    return next(each for each in (short, longer, numbered) if len(set(each)) == len(each))


def _lines(found: Sequence[Rival], task: str, metric: str) -> Iterable[Line]:
    measured = [rival.measured(task, metric) for rival in found]
    for length in sorted({length for each in measured for length in each}):
        items = [each.get(length) for each in measured]
        cells = tuple(estimate(item) if item else None for item in items)
        there = [rival for rival, item in zip(found, items, strict=True) if item]
        unlike = "" if alike(there, task, length) else f" ({UNLIKE})"
        yield Line(f"{tokens(length)}{unlike}", cells, count_range([item.count for item in items if item]))


def _windows(found: Sequence[Rival]) -> tuple[Marker, ...]:
    """Return the windows that all runs share."""
    pairs_of = {(rival.comparison.original, rival.comparison.window) for rival in found}
    if len(pairs_of) > 1:
        return ()
    original, window = pairs_of.pop()
    named = ((original, "original"), (window, "extended"))
    return tuple(Marker(length, name) for length, name in named if length)


def _tasks(rival: Rival) -> set[str]:
    return {task for task, _ in _metrics(rival)}


def _metrics(rival: Rival) -> dict[tuple[str, str], None]:
    own = [item.report for item in rival.run.evals if item.stage == rival.run.result]
    return dict.fromkeys((report.task, item.metric) for report in own for item in report.measurements)


def _meet(lengths: Sequence[set[int]]) -> bool:
    return any(one & other for place, one in enumerate(lengths) for other in lengths[place + 1 :])
