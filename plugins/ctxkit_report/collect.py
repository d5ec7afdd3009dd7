"""Read a run directory, however far the run came, into frozen dataclasses."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ctxkit.errors import CtxkitError
from ctxkit.spec import EvalReport, Measurement

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path


@dataclass(frozen=True)
class Stage:
    """One training: where its weights came from, and what it used. None where the run does not say yet."""

    name: str
    start: str | None = None
    """The stage whose weights it starts from."""
    rope: Mapping[str, Any] | None = None
    length: int | None = None
    """Longest training example in tokens."""
    steps: int | None = None
    tokens: int | None = None
    seconds: float | None = None
    data: str = ""
    """The key of the data it trained on."""


@dataclass(frozen=True)
class LossPoint:
    """The training loss logged at one step of one stage."""

    step: int
    loss: float


@dataclass(frozen=True)
class StageEval:
    """One eval report on the model of one stage."""

    stage: str
    number: int
    """Its place in the recipe: tells apart two evals of one kind."""
    report: EvalReport


@dataclass(frozen=True)
class SourceLedger:
    """Where the tokens of one source went."""

    kind: str
    documents: int | None
    read: int | None
    trained: int | None
    context: int | None
    unused: int | None
    dropped: Mapping[str, int]
    """Tokens by reason."""
    filtered: Mapping[str, int] = field(default_factory=dict)
    """Documents by reason, left out before they were tokenised."""


@dataclass(frozen=True)
class DataLedger:
    """One prepared data set and the stages that trained on it."""

    name: str
    stages: tuple[str, ...]
    tokens: int | None
    chunks: int | None
    sources: tuple[SourceLedger, ...]


@dataclass(frozen=True)
class Run:
    """All that a report is made from."""

    name: str
    status: str
    result: str | None
    """The stage whose model the run is about."""
    original_window: int | None
    command: str
    seed: int | None
    stages: tuple[Stage, ...] = ()
    losses: Mapping[str, tuple[LossPoint, ...]] = field(default_factory=dict)
    evals: tuple[StageEval, ...] = ()
    data: tuple[DataLedger, ...] = ()
    recipe: str = ""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    """Files that are there but could not be read, each with the reason."""

    def stage(self, name: str | None) -> Stage | None:
        """Return the stage of that name, or None."""
        return next((stage for stage in self.stages if stage.name == name), None)

    def report(self, stage: str | None, task: str) -> EvalReport | None:
        """Return the first report of a task on a stage: the one that tables and figures compare."""
        return next((item.report for item in self.evals if item.stage == stage and item.report.task == task), None)


def collect(run_dir: Path) -> Run:
    """Read everything that is there; what is absent is left empty, what is broken is named in `problems`."""
    if not run_dir.is_dir():
        raise CtxkitError(f"{run_dir} is not a run directory", "`ctxkit run` makes one; give its path")
    problems: list[str] = []
    about = _mapping(run_dir / "run.json", problems)
    stages = tuple(_stage(item) for item in _dicts(about.get("stages")))
    trained_on = [(_text(item.get("data")), _text(item.get("name"))) for item in _dicts(about.get("stages"))]
    return Run(
        name=_text(about.get("name")) or run_dir.resolve().name,
        status=_text(about.get("status")) or "unknown",
        result=_text(about.get("result")) or None,
        original_window=_whole(about.get("original_window")),
        command=_text(about.get("command")),
        seed=_whole(about.get("seed")),
        stages=stages,
        losses=_losses(run_dir / "metrics.jsonl"),
        evals=_evals(run_dir / "evals", [stage.name for stage in stages], problems),
        data=tuple(_data(path, trained_on, problems) for path in sorted(run_dir.glob("data/*/manifest.json"))),
        recipe=_content(run_dir / "recipe.yaml"),
        provenance=_mapping(run_dir / "provenance.json", problems),
        problems=tuple(problems),
    )


def _stage(item: Mapping[str, Any]) -> Stage:
    rope = item.get("rope")
    return Stage(
        name=_text(item.get("name")) or "unnamed",
        start=_text(item.get("from")) or None,
        rope=rope if isinstance(rope, dict) else None,
        length=_whole(item.get("length")),
        steps=_whole(item.get("steps")),
        tokens=_whole(item.get("tokens")),
        seconds=_real(item.get("seconds")),
        data=_text(item.get("data")),
    )


def _losses(path: Path) -> dict[str, tuple[LossPoint, ...]]:
    """Keep the last line of each step: after a resume a step may have been logged twice."""
    found: dict[str, dict[int, float]] = {}
    for line in _content(path).splitlines():
        try:
            entry = json.loads(line)
        except ValueError:  # the line that was being written when the run stopped
            continue
        if not isinstance(entry, dict):
            continue
        stage, step, loss = entry.get("stage"), _whole(entry.get("step")), _real(entry.get("loss"))
        if isinstance(stage, str) and step is not None and loss is not None:
            found.setdefault(stage, {})[step] = loss
    return {
        stage: tuple(LossPoint(step, loss) for step, loss in sorted(points.items())) for stage, points in found.items()
    }


def _evals(folder: Path, order: list[str], problems: list[str]) -> tuple[StageEval, ...]:
    known = {name: place for place, name in enumerate(order)}
    found = [_eval(path, problems) for path in folder.glob("*/*.json")]
    present = [item for item in found if item is not None]
    present.sort(key=lambda item: (known.get(item.stage, len(known)), item.stage, item.number, item.report.task))
    return tuple(present)


def _eval(path: Path, problems: list[str]) -> StageEval | None:
    data = _mapping(path, problems)
    if not data:
        return None
    try:
        report = EvalReport.from_json({"samples": [], "metadata": {}, **data})
    except (KeyError, TypeError, AttributeError) as error:
        problems.append(f"{_short(path)}: not an eval report ({type(error).__name__}: {error})")
        return None
    if not isinstance(report.task, str) or not all(_sound(item) for item in report.measurements):
        problems.append(f"{_short(path)}: a measurement is not a number")
        return None
    prefix = path.stem.partition("-")[0]
    return StageEval(path.parent.name, int(prefix) if prefix.isdecimal() else 0, report)


def _sound(item: Measurement) -> bool:
    numbers = (item.length, item.value, item.low, item.high, item.count, 0 if item.depth is None else item.depth)
    return isinstance(item.metric, str) and all(isinstance(value, (int, float)) for value in numbers)


def _data(path: Path, trained_on: list[tuple[str, str]], problems: list[str]) -> DataLedger:
    manifest = _mapping(path, problems)
    return DataLedger(
        name=path.parent.name,
        stages=tuple(stage for key, stage in trained_on if key == path.parent.name),
        tokens=_whole(manifest.get("tokens")),
        chunks=_whole(manifest.get("chunks")),
        sources=tuple(_source(item) for item in _dicts(manifest.get("sources"))),
    )


def _source(item: Mapping[str, Any]) -> SourceLedger:
    return SourceLedger(
        kind=_text(item.get("kind")) or "unnamed",
        documents=_whole(item.get("documents")),
        read=_whole(item.get("tokens_read")),
        trained=_whole(item.get("tokens_trained")),
        context=_whole(item.get("tokens_context")),
        unused=_whole(item.get("tokens_unused")),
        dropped=_counts(item.get("dropped")),
        filtered=_counts(item.get("filtered_documents")),
    )


def _counts(value: object) -> dict[str, int]:
    items = value.items() if isinstance(value, dict) else ()
    return {str(reason): count for reason, found in items if (count := _whole(found)) is not None}


def _mapping(path: Path, problems: list[str]) -> dict[str, Any]:
    text = _content(path)
    if not text:
        if path.exists():
            problems.append(f"{_short(path)}: empty or unreadable")
        return {}
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        problems.append(f"{_short(path)}: not JSON ({error})")
        return {}
    if isinstance(data, dict):
        return data
    problems.append(f"{_short(path)}: not a JSON object")
    return {}


def _content(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:  # absent, or a folder of that name
        return ""


def _short(path: Path) -> str:
    return "/".join(path.parts[-3:]) if path.parent.parent.name in {"evals", "data"} else path.name


def _dicts(value: object) -> Iterator[dict[str, Any]]:
    return (item for item in value if isinstance(item, dict)) if isinstance(value, list) else iter(())


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _real(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _whole(value: object) -> int | None:
    real = _real(value)
    return int(real) if real is not None and math.isfinite(real) else None
