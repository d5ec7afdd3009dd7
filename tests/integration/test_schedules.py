"""Learning rates that a run really uses, against transformers' own schedules."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import get_scheduler

from ctxkit.train import run
from tests.integration.micro import RECIPE

pytestmark = pytest.mark.torch

STEPS, RATE = 10, 1.0e-2
WSD = {"num_decay_steps": 4, "min_lr_ratio": 0.1}
WSD_SAID = json.dumps(WSD)
SCHEDULES: dict[str, tuple[str, float, dict[str, Any], float]] = {
    "linear": ("linear", 0.2, {}, RATE / 2),
    "cosine": ("cosine", 0.3, {}, RATE),
    "wsd": ("warmup_stable_decay", 3, WSD, RATE),
}
"""By stage: the schedule, its warm-up as a share or as steps, its arguments, the rate it begins to decay from."""


def expected(stage: str) -> list[float]:
    """Return the rate of each step by transformers alone."""
    name, warmup, arguments, rate = SCHEDULES[stage]
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=rate)
    steps = round(warmup * STEPS) if warmup < 1 else int(warmup)
    scheduler = get_scheduler(name, optimizer, steps, STEPS, arguments)
    rates = []
    for _ in range(STEPS):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def test_schedules_reach_the_optimizer(tmp_path: Path) -> None:
    """Three schedules, a warm-up by share or by steps, a rate by rule: the rates are those of transformers."""
    said = {
        "linear": f"{RATE} / sqrt(factor), lr_scheduler_type: linear, warmup_steps: 0.2",
        "cosine": f"{RATE}, lr_scheduler_type: cosine, warmup_steps: 0.3",
        "wsd": f"{RATE}, lr_scheduler_type: warmup_stable_decay, warmup_steps: 3, lr_scheduler_kwargs: {WSD_SAID}",
    }
    data = "data: {sources: [{kind: repeats, documents: 80, length: 31}], chunker: {kind: overlap, length: 32}}"
    stages = [f"  - {{name: {name}, {data}, train: {{learning_rate: {rate}}}}}\n" for name, rate in said.items()]
    head = RECIPE[: RECIPE.index("stages:")] + "rope: {kind: yarn, factor: 4}\n"
    (tmp_path / "rates.yaml").write_text(f"{head}stages:\n{''.join(stages)}")
    made = run(tmp_path / "rates.yaml", tmp_path / "run", ("evals=[]", f"train.max_steps={STEPS}"))
    lines = [json.loads(line) for line in made.metrics.read_text().splitlines()]
    for stage in SCHEDULES:
        found = [line["learning_rate"] for line in lines if line["stage"] == stage and "learning_rate" in line]
        assert found == pytest.approx(expected(stage), rel=1e-9), stage
