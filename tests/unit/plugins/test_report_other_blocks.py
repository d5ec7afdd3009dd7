"""The terminal shows every kind of eval, by length, beside the models that are compared."""

from __future__ import annotations

import json
from pathlib import Path

from ctxkit.spec import EvalReport, Measurement
from ctxkit_report.collect import collect
from ctxkit_report.comparison import compare
from ctxkit_report.notation import NONE
from ctxkit_report.other_charts import other_charts
from ctxkit_report.page import write_report
from ctxkit_report.tables import method_rows, other_evals, training_rows
from ctxkit_report.terminal import summary
from tests.unit.plugins.report_runs import STAGES, answered, passkey, put_report, put_run


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


def test_the_yarn_reference_is_no_run_without_evals(tmp_path: Path) -> None:
    """Perplexity by another metric than those that are compared: named, and shown with its number."""
    put_run(tmp_path)
    put_report(tmp_path, "yarn", EvalReport("perplexity", (Measurement("perplexity_yarn", 512, 7.25, 7, 8, 9),)))
    text = summary(tmp_path)
    assert "The result stage yarn was measured with perplexity; see below" in text
    lines = text.splitlines()
    assert "7.25 [7.00, 8.00]" in lines[lines.index("perplexity: perplexity_yarn") + 1]


def test_a_second_eval_of_a_compared_kind_is_shown(tmp_path: Path) -> None:
    """In the terminal and, numbered, on the page; the first stands in the comparison and nowhere else."""
    put_run(tmp_path)
    put_report(tmp_path, "yarn", passkey(*answered(512, "10")))
    put_report(tmp_path, "yarn", passkey(*answered(512, "1110")), 1)
    lines = summary(tmp_path).splitlines()
    assert "75 % [65, 85]" in lines[lines.index("passkey, eval 2: accuracy") + 1]
    run = collect(tmp_path)
    assert [table.task for table in other_evals(compare(run))] == ["passkey, eval 2"]
    assert [name for name, _ in method_rows(run)] == ["passkey, eval 1 (yarn)", "passkey, eval 2 (yarn)"]


def test_charts_of_two_evals_of_one_kind_are_told_apart(tmp_path: Path) -> None:
    """By their place in the recipe."""
    put_run(tmp_path)
    for place in (0, 1):
        found = tuple(Measurement("recall", length, 0.5, 0.4, 0.6, 9) for length in (128, 512))
        put_report(tmp_path, "yarn", EvalReport("needle", found), place)
    titles = [chart.title for chart in other_charts(compare(collect(tmp_path)))]
    assert titles == ["needle, eval 1: recall", "needle, eval 2: recall"]


def test_evals_of_which_nothing_could_be_measured_are_said(tmp_path: Path) -> None:
    """A recipe with evals is not one without."""
    put_run(tmp_path)
    put_report(tmp_path, "yarn", EvalReport("ruler", (), failures={"512": "out of memory"}))
    assert "Nothing could be measured of the result stage yarn" in summary(tmp_path)


def test_the_training_table_has_the_operations(tmp_path: Path) -> None:
    """With two digits; a dash where nothing was trained or the run is older."""
    stages = [{**stage, "total_flos": 2.14e15 if stage["name"] == "yarn" else 0.0} for stage in STAGES]
    put_run(tmp_path, stages=stages)
    rows = training_rows(compare(collect(tmp_path)))
    assert [row.flops for row in rows] == [NONE, NONE, "2.1e15"]
    markup = write_report(tmp_path).read_text(encoding="utf-8")
    assert markup.count("<td>2.1e15</td></tr>") == 1
