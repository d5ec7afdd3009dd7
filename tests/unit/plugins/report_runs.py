"""A run directory as `ctxkit run` leaves it, in a few lines, for the tests of the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ctxkit.spec import EvalReport, Measurement, Sample

STAGES: list[dict[str, Any]] = [
    {"name": "base", "from": None, "rope": None, "length": 128, "steps": 4, "tokens": 512, "seconds": 1.0},
    {"name": "control", "from": "base", "rope": None, "length": 512, "steps": 4, "tokens": 2048, "seconds": 1.0},
    {
        "name": "yarn",
        "from": "base",
        "rope": {"kind": "yarn", "factor": 4.0, "window": 512},
        "length": 512,
        "steps": 4,
        "tokens": 2048,
        "seconds": 1.0,
    },
]


def put_run(folder: Path, **changes: Any) -> Path:
    """Write `run.json` and metrics of a finished run with a control, without evals."""
    about = {"name": "tiny", "status": "done", "result": "yarn", "stages": STAGES, "original_window": 128, "seed": 0}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_text(json.dumps({**about, "command": "ctxkit run tiny.yaml", **changes}))
    lines = [
        {"stage": stage["name"], "step": step, "loss": 5.0 / step, "learning_rate": 0.1, "grad_norm": 1.0 / step}
        for stage in STAGES
        for step in (1, 2, 3, 4)
    ]
    (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return folder


def answered(length: int, right: str, **texts: str) -> tuple[Sample, ...]:
    """Return samples of which `1` was right and `0` wrong, such as `1101`, each with the same texts."""
    return tuple(Sample(f"{length}-{n}", length, float(each), 0.5, **texts) for n, each in enumerate(right))


def passkey(*samples: Sample, failures: dict[str, str] | None = None) -> EvalReport:
    """Return a report of samples, with an accuracy for each length and for its depth."""
    found = []
    for length in sorted({sample.length for sample in samples}):
        scores = [sample.score for sample in samples if sample.length == length]
        share = sum(scores) / len(scores)
        low, high = max(share - 0.1, 0), min(share + 0.1, 1)
        found += [Measurement("accuracy", length, share, low, high, len(scores), depth) for depth in (None, 0.5)]
    return EvalReport("passkey", tuple(found), samples, {"seed": 0}, failures or {})


def put_report(folder: Path, stage: str, report: EvalReport, place: int = 0) -> None:
    """Write the report of an eval of a stage."""
    path = folder / "evals" / stage / f"{place}-{report.task}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"key": "k", **report.to_json()}))
