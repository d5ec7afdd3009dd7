"""A run of one stage that is interrupted at a checkpoint of choice, and the rows of each of its steps."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from trl import SFTTrainer

from tests.integration.micro import RECIPE

ONE = RECIPE[: RECIPE.index("evals:")] + RECIPE[RECIPE.index("stages:") : RECIPE.index("  - name: control")]
"""One stage of eight steps, without dropout or evals."""
ALL = ("train.save_total_limit=null",)


def interrupted(finished: Path, directory: Path, step: int, name: str = "base") -> Path:
    """Copy a run directory as it was when one of its checkpoints had been saved and nothing more."""
    shutil.copytree(finished, directory)
    stage = directory / "stages" / name
    shutil.rmtree(stage / "model")
    for file in ("stage.json", "finished"):
        (stage / file).unlink()
    for path in (stage / "checkpoints").glob("checkpoint-*"):
        if int(path.name.rpartition("-")[2]) > step:
            shutil.rmtree(path)
    status = json.loads((directory / "run.json").read_text())
    (directory / "run.json").write_text(json.dumps({**status, "status": "running"}))
    return directory


def logged(directory: Path, name: str) -> dict[int, float]:
    """Return a value of the metrics by step."""
    lines = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line[name] for line in lines if name in line}


def rows(directory: Path) -> dict[int, Counter[str]]:
    """Return the digests of the rows of each step, over all processes, of the last attempt at it."""
    found: dict[int, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    for file in sorted(directory.glob("rows-*.jsonl"), key=lambda path: path.stat().st_mtime_ns):
        for line in map(json.loads, file.read_text().splitlines()):
            found[line["step"]][file.name.split("-")[1]].update(line["rows"])
    return {step: found[step].popitem()[1] for step in sorted(found)}


_step = SFTTrainer.training_step


def recorded(trainer: Any, model: Any, inputs: dict[str, Any], *more: Any, **named: Any) -> Any:
    """Write a digest of each row, or of each packed document, then train on them."""
    folder = Path(trainer.args.output_dir).parents[2]
    attempt = os.environ.get("MASTER_PORT", os.getpid())
    parts = (row[kept != 0].tolist() for row, kept in zip(inputs["input_ids"], _kept(inputs), strict=True))
    digests = [hashlib.sha256(json.dumps(part).encode()).hexdigest()[:12] for part in parts]
    line = {"step": trainer.state.global_step + 1, "rows": digests}
    with (folder / f"rows-{attempt}-{trainer.args.process_index}.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")
    return _step(trainer, model, inputs, *more, **named)


def _kept(inputs: dict[str, Any]) -> Any:
    mask = inputs.get("attention_mask")
    return inputs["input_ids"] * 0 + 1 if mask is None else mask


if os.environ.get("CTXKIT_TESTS_RECORD_ROWS"):
    SFTTrainer.training_step = recorded
