"""What the points of a sweep measured: one row a measurement, then means over seeds with their spread."""

from __future__ import annotations

import csv
import io
import json
import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ctxkit.rundir import read_json, write_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from ctxkit.sweep.points import Point
    from ctxkit.sweep.running import Sweep

SEEDS = ("seed", "data_seed")
"""Last words of paths whose values are repetitions of the same run, over which is averaged."""
SPREAD = "95 % Student t over seeds"
WITHIN = "95 % over the samples of one run"
_T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120,
        2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042)  # fmt: skip
"""The 0.975 quantile of Student's t for 1 to 30 degrees of freedom."""


@dataclass(frozen=True)
class Row:
    """One measurement of one point."""

    point: Point
    task: str
    metric: str
    length: int
    """Context in tokens; of a loss, the rows it was trained on."""
    value: float
    low: float | None
    high: float | None
    count: int


@dataclass(frozen=True)
class Pooled:
    """A metric at some swept values, over all seeds."""

    values: dict[str, Any]
    """The swept values, seeds left out."""
    task: str
    metric: str
    length: int
    mean: float
    low: float | None
    high: float | None
    interval: str
    """What the interval is of."""
    runs: int


def rows(sweep: Sweep) -> list[Row]:
    """Return what the finished points measured on their result, over all depths, and the last losses."""
    return [row for point in sweep.points if sweep.status(point) == "done"
            for row in _rows(point, sweep.directory(point))]  # fmt: skip


def _rows(point: Point, folder: Path) -> Iterator[Row]:
    about = read_json(folder / "run.json")
    result = about["result"]
    for file in sorted((folder / "evals" / result).glob("*.json")):
        report = read_json(file)
        for item in report.get("measurements", ()):
            if item["depth"] is None:
                numbers = (item["length"], item["value"], item["low"], item["high"], item["count"])
                yield Row(point, report["task"], item["metric"], *numbers)
    length = next((stage["length"] for stage in about.get("stages", ()) if stage["name"] == result), 0)
    for metric, value in _losses(folder / "metrics.jsonl", result).items():
        yield Row(point, "train", metric, length, value, None, None, 1)


def _losses(file: Path, stage: str) -> dict[str, float]:
    """Return the last training loss and the last loss on documents set aside."""
    found: dict[str, float] = {}
    for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else ():
        values = json.loads(line)
        if values.get("stage") == stage:
            found |= {name: values[name] for name in ("loss", "eval_loss") if name in values}
    return found


def pooled(found: Sequence[Row]) -> list[Pooled]:
    """Return the mean of each metric over seeds, with its spread; of a single run, the interval of its samples."""
    groups: dict[tuple[str, str, int, str], list[Row]] = {}
    for row in found:
        values = {key: value for key, value in row.point.values.items() if not is_seed(key)}
        groups.setdefault((row.task, row.metric, row.length, json.dumps(values)), []).append(row)
    return [_pooled(json.loads(values), members) for (_, _, _, values), members in groups.items()]


def is_seed(key: str) -> bool:
    """Return whether a path names a seed."""
    return key.rpartition(".")[2] in SEEDS


def _pooled(values: dict[str, Any], members: Sequence[Row]) -> Pooled:
    first, numbers = members[0], [member.value for member in members]
    mean, count = statistics.fmean(numbers), len(numbers)
    low, high, said = first.low, first.high, WITHIN if first.low is not None else ""
    if count > 1:
        reach = _T95[min(count - 1, len(_T95)) - 1] * statistics.stdev(numbers) / math.sqrt(count)
        low, high, said = mean - reach, mean + reach, SPREAD
    return Pooled(values, first.task, first.metric, first.length, mean, low, high, said, count)


def write_csv(path: Path, found: Sequence[Row], keys: Sequence[str]) -> None:
    """Write one line a measurement: the swept values, then what was measured."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["point", *keys, "task", "metric", "length", "value", "low", "high", "count"])
    for row in found:
        values = [json.dumps(row.point.values[key]) for key in keys]
        measured = [row.task, row.metric, row.length, row.value, row.low, row.high, row.count]
        writer.writerow([row.point.name, *values, *measured])
    write_text(path, out.getvalue())


def terminal(found: Sequence[Pooled]) -> str:
    """Return the table for a terminal: a line for each metric, length and swept value, the intervals named."""
    keys = list(found[0].values) if found else []
    lines = [[*keys, "metric", "length", "mean", "interval", "runs"]]
    for item in sorted(found, key=lambda item: (item.task, item.metric, item.length)):
        interval = "-" if item.low is None or item.high is None else f"[{item.low:.4g}, {item.high:.4g}]"
        values = [str(item.values[key]) for key in keys]
        measured = [f"{item.task}.{item.metric}", f"{item.length:,}", f"{item.mean:.4g}", interval, str(item.runs)]
        lines.append([*values, *measured])
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    said = sorted({item.interval for item in found if item.interval})
    return "\n".join([*text, *(["", f"intervals: {'; '.join(said)}"] if said else [])])
