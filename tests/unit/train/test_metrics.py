"""What is written into `metrics.jsonl` beside what the trainer logs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from transformers import TrainerControl, TrainerState, TrainingArguments

from ctxkit.train import callbacks


def test_throughput_and_memory_are_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens a second since the log before, by the clock; and the most memory, which holds what was held meanwhile."""
    clock = iter((0.0, 10.0, 14.0))
    monkeypatch.setattr(callbacks.time, "monotonic", lambda: next(clock))
    args = TrainingArguments(output_dir=str(tmp_path), use_cpu=True)
    state, control = TrainerState(is_world_process_zero=True), TrainerControl()
    metrics = callbacks.Metrics(tmp_path / "metrics.jsonl", "s")
    metrics.on_train_begin(args, state, control)
    metrics.on_log(args, state, control, {"loss": 2.0, "num_tokens": 1000.0})
    held = np.ones(64 * 2**20, dtype=np.uint8)
    metrics.on_log(args, state, control, {"loss": 1.0, "num_tokens": 3000.0})
    first, last = (json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines())
    assert "tokens_per_second" not in first
    assert last["tokens_per_second"] == 500.0
    assert last["peak_memory_bytes"] >= first["peak_memory_bytes"] > held.nbytes
