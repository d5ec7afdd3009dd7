"""Read a run directory, however far the run came, into frozen dataclasses."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ctxkit.errors import CtxkitError
from ctxkit.spec import EvalReport, Measurement
from ctxkit_report.manifest import manifests, read_set, stage_keys
from ctxkit_report.reading import content, dicts, mapping, real, short, text, whole

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from ctxkit_report.prepared import Prepared


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
    flops: float | None = None
    """Floating-point operations, as transformers estimates them."""
    data: str = ""
    """The key of the data it trained on."""
    curriculum: Mapping[str, Any] | None = None
    """What its curriculum came to, phase by phase."""


@dataclass(frozen=True)
class Logged:
    """One value that the trainer logged at one step of one stage."""

    step: int
    value: float


LOGGED = ("loss", "eval_loss", "learning_rate", "grad_norm", "tokens_per_second", "peak_memory_bytes")
"""What is read of `metrics.jsonl`."""


@dataclass(frozen=True)
class StageEval:
    """One eval report on the model of one stage."""

    stage: str
    number: int
    """Its place in the recipe: tells apart two evals of one kind."""
    report: EvalReport


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
    logged: Mapping[str, Mapping[str, tuple[Logged, ...]]] = field(default_factory=dict)
    """By what was logged, such as `loss`, then by stage."""
    evals: tuple[StageEval, ...] = ()
    data: tuple[Prepared, ...] = ()
    """Without samples."""
    recipe: str = ""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    origins: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Every value of the recipe by its dotted path, with where it was written."""
    problems: tuple[str, ...] = ()
    drift: tuple[str, ...] = ()
    """What the run went on with that its earlier steps were not trained by."""
    """Files that are there but could not be read, each with the reason."""

    @property
    def losses(self) -> Mapping[str, tuple[Logged, ...]]:
        """The training loss by stage."""
        return self.logged.get("loss", {})

    def stage(self, name: str | None) -> Stage | None:
        """Return the stage of that name, or None."""
        return next((stage for stage in self.stages if stage.name == name), None)

    def report(self, stage: str | None, task: str) -> EvalReport | None:
        """Return the first report of a task on a stage: the one that tables and figures compare."""
        return next((item.report for item in self.evals if item.stage == stage and item.report.task == task), None)

    def twin(self, item: StageEval) -> str:
        """Return `eval 2`, by its place in the recipe, where the run has several evals of one kind; else nothing."""
        several = len({each.number for each in self.evals if each.report.task == item.report.task}) > 1
        return f"eval {item.number + 1}" if several else ""

    def named(self, item: StageEval) -> str:
        """Return the task of an eval, with its place where there are several of one kind: `needle, eval 2`."""
        return ", ".join(filter(None, (item.report.task, self.twin(item))))


def collect(run_dir: Path) -> Run:
    """Read everything that is there; what is absent is left empty, what is broken is named in `problems`."""
    if not run_dir.is_dir():
        raise CtxkitError(f"{run_dir} is not a run directory", "`ctxkit run` makes one; give its path")
    problems: list[str] = []
    about = mapping(run_dir / "run.json", problems)
    stages = tuple(_stage(item) for item in _records(run_dir, about, problems))
    return Run(
        name=text(about.get("name")) or run_dir.resolve().name,
        status=text(about.get("status")) or "unknown",
        result=text(about.get("result")) or None,
        original_window=whole(about.get("original_window")),
        command=text(about.get("command")),
        seed=whole(about.get("seed")),
        stages=stages,
        logged=_logged(run_dir / "metrics.jsonl"),
        evals=_evals(run_dir / "evals", [stage.name for stage in stages], problems),
        data=_data(run_dir, stages, problems),
        recipe=content(run_dir / "recipe.yaml") or content(run_dir / "suite.yaml"),
        provenance=mapping(run_dir / "provenance.json", problems),
        origins=_origins(mapping(run_dir / "origins.json", problems)),
        problems=tuple(problems),
        drift=tuple(_drift(dicts(about.get("drift")))),
    )


def _drift(recorded: Iterable[dict[str, Any]]) -> Iterator[str]:
    """Yield a line about each time that a run went on by `--allow-drift`."""
    for entry in recorded:
        steps, changes = entry.get("from_steps"), entry.get("changes")
        if isinstance(steps, dict) and isinstance(changes, list):
            places = ", ".join(f"stage {name} from step {step}" for name, step in steps.items())
            yield f"{places or 'every stage to come'}: {'; '.join(map(str, changes))}"


def _origins(found: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    items = ((key, item) for key, item in found.items() if isinstance(item, dict))
    return {key: (str(item.get("value")), text(item.get("origin"))) for key, item in items}


def _records(run_dir: Path, about: Mapping[str, Any], problems: list[str]) -> list[dict[str, Any]]:
    """Return the records of the finished stages; `run.json` names the last of them later than it names itself."""
    named = list(dicts(about.get("stages")))
    known = {item.get("name") for item in named}
    own = [mapping(path, problems) for path in sorted(run_dir.glob("stages/*/stage.json"), key=_time)]
    return named + [item for item in own if item and item.get("name") not in known]


def _time(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _stage(item: Mapping[str, Any]) -> Stage:
    rope, curriculum = item.get("rope"), item.get("curriculum")
    return Stage(
        name=text(item.get("name")) or "unnamed",
        start=text(item.get("from")) or None,
        rope=rope if isinstance(rope, dict) else None,
        length=whole(item.get("length")),
        steps=whole(item.get("steps")),
        tokens=whole(item.get("tokens")),
        seconds=real(item.get("seconds")),
        flops=real(item.get("total_flos")),
        data=text(item.get("data")),
        curriculum=curriculum if isinstance(curriculum, dict) else None,
    )


def _data(run_dir: Path, stages: Iterable[Stage], problems: list[str]) -> tuple[Prepared, ...]:
    """Read every data set that is there; what `run.json` says of a stage is newer than `data.json`."""
    keys = stage_keys(run_dir, problems) | {stage.name: stage.data for stage in stages if stage.data}
    found = (read_set(path.parent, keys, problems) for path in manifests(run_dir))
    return tuple(item for item in found if item)


def _logged(path: Path) -> dict[str, dict[str, tuple[Logged, ...]]]:
    """Keep the last line of each step: after a resume a step may have been logged twice."""
    found: dict[str, dict[str, dict[int, float]]] = {}
    for entry in _entries(path):
        stage, step = entry.get("stage"), whole(entry.get("step"))
        if not isinstance(stage, str) or step is None:
            continue
        for name in LOGGED:
            if (value := real(entry.get(name))) is not None:
                found.setdefault(name, {}).setdefault(stage, {})[step] = value
    return {
        name: {stage: tuple(Logged(*each) for each in sorted(steps.items())) for stage, steps in stages.items()}
        for name, stages in found.items()
    }


def _entries(path: Path) -> Iterator[dict[str, Any]]:
    for line in content(path).splitlines():
        try:
            entry = json.loads(line)
        except ValueError:  # the line that was being written when the run stopped
            continue
        if isinstance(entry, dict):
            yield entry


def _evals(folder: Path, order: list[str], problems: list[str]) -> tuple[StageEval, ...]:
    known = {name: place for place, name in enumerate(order)}
    found = [_eval(path, problems) for path in folder.glob("*/*.json")]
    present = [item for item in found if item is not None]
    present.sort(key=lambda item: (known.get(item.stage, len(known)), item.stage, item.number, item.report.task))
    return tuple(present)


def _eval(path: Path, problems: list[str]) -> StageEval | None:
    data = mapping(path, problems)
    if not data:
        return None
    try:
        report = EvalReport.from_json({"samples": [], "metadata": {}, **data})
    except (KeyError, TypeError, AttributeError) as error:
        problems.append(f"{short(path)}: not an eval report ({type(error).__name__}: {error})")
        return None
    if not isinstance(report.task, str) or not all(_sound(item) for item in report.measurements):
        problems.append(f"{short(path)}: a measurement is not a number")
        return None
    prefix = path.stem.partition("-")[0]
    return StageEval(path.parent.name, int(prefix) if prefix.isdecimal() else 0, report)


def _sound(item: Measurement) -> bool:
    numbers = (item.length, item.value, item.low, item.high, item.count, 0 if item.depth is None else item.depth)
    return isinstance(item.metric, str) and all(isinstance(value, (int, float)) for value in numbers)
