"""The terminal shows every kind of eval, by length, beside the models that are compared."""

from __future__ import annotations

import json
from pathlib import Path

from ctxkit.spec import EvalReport, Measurement
from ctxkit_report.terminal import summary


def report(folder: Path, name: str, task: str, *measured: Measurement) -> None:
    """Write the file of an eval."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(EvalReport(task, measured).to_json()))


def test_other_evals_stand_in_the_summary(tmp_path: Path) -> None:
    """Pooled values by length; two evals of one kind are told apart; a fourth metric is left to the page."""
    stage = {"name": "model", "length": 64, "steps": 0, "tokens": 0, "seconds": 0}
    about = {"name": "measured", "status": "done", "result": "model", "original_window": 64, "stages": [stage]}
    (tmp_path / "run.json").write_text(json.dumps(about))
    folder = tmp_path / "evals/model"
    for number, value in ((0, 0.25), (1, 0.75)):
        pooled = Measurement("recall", 64, value, 0, 1, 8)
        report(folder, f"{number}-needle", "needle", pooled, Measurement("recall", 64, 0.111, 0, 1, 4, depth=0.5))
    metrics = [Measurement(f"metric_{letter}", 0, 0.5, 0.4, 0.6, 9) for letter in "abcd"]
    report(folder, "2-lm_eval", "lm_eval", *metrics)
    lines = summary(tmp_path).splitlines()
    for title, value in (("needle, eval 1: recall", "0.25"), ("needle, eval 2: recall", "0.75")):
        assert value in lines[lines.index(title) + 1]
        assert "original window" in lines[lines.index(title) + 1]
    assert not any("0.111" in line for line in lines)
    assert [line for line in lines if line.startswith("lm_eval")] == [f"lm_eval: metric_{letter}" for letter in "abc"]
    assert lines[lines.index("lm_eval: metric_a") + 1].split()[1:] == ["0.500", "[0.400,", "0.600]", "9"]
