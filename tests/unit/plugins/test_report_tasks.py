"""Evals of many tasks: each is tested and shown by itself."""

from __future__ import annotations

from pathlib import Path

from ctxkit.spec import EvalReport, Measurement, Sample
from ctxkit_report.collect import collect
from ctxkit_report.compare_page import render
from ctxkit_report.comparison import compare
from ctxkit_report.examples import examples
from ctxkit_report.headline import headline
from ctxkit_report.paired import paired_rows
from ctxkit_report.rivals import paired, rivals
from tests.unit.plugins.report_runs import answered, passkey, put_report, put_run


def report(task: str, length: int, **scores: list[float]) -> EvalReport:
    """Return a report of an eval with the scores of each task within it."""
    samples = tuple(
        Sample(f"{name}{n}", length, score, input=f"Q {name}{n}", output="A", metadata={"task": name})
        for name, found in scores.items()
        for n, score in enumerate(found)
    )
    return EvalReport(task, (Measurement("acc", length, 0.5, 0.4, 0.6, len(samples)),), samples)


def put(folder: Path, task: str = "lm_eval", length: int = 0, gain: float = 1.0) -> Path:
    """Write a run in which `arc` is as before and ten samples of `wiki`, on its own scale, rose by 100."""
    put_run(folder)
    for stage, plus in (("base", 0.0), ("yarn", 100 * gain)):
        put_report(folder, stage, passkey(*answered(512, "0" * 9 if stage == "base" else "1" * 9)))
        wiki = [200 + n + plus for n in range(10)]
        put_report(folder, stage, report(task, length, arc=[0, 0, 1, 1], wiki=wiki), 1)
    return folder


def test_each_task_has_a_test_of_its_own(tmp_path: Path) -> None:
    """Right or wrong by McNemar's; another scale by the mean difference; no mean over both."""
    rows = [(row.task, row.count, row.said) for row in paired_rows(compare(collect(put(tmp_path / "a"))))]
    assert rows[1:] == [
        ("lm_eval: arc", "4", "0 gained, 0 lost, p = 1"),
        ("lm_eval: wiki", "10", "+100\N{NO-BREAK SPACE}[+100,\N{NO-BREAK SPACE}+100]"),
    ]
    found = rivals((tmp_path / "a", put(tmp_path / "b")))
    assert [row.task for row in paired(found)] == ["passkey", "lm_eval: arc", "lm_eval: wiki"]
    assert "lm_eval: wiki" in render(found)


def test_the_headline_says_which_tasks_changed(tmp_path: Path) -> None:
    """And that each is tested by itself."""
    text = " ".join(str(headline(compare(collect(put(tmp_path / "a"))))).split())
    assert "Of 2 short tasks (lm_eval) 1 changed, each tested at 5 % on the same samples: wiki (+100 [+100" in text
    text = " ".join(str(headline(compare(collect(put(tmp_path / "b", gain=0.0))))).split())
    assert "Short tasks (2 of lm_eval) are unchanged within noise, each on the same samples." in text


def test_each_task_shows_some_prompts(tmp_path: Path) -> None:
    """At the longest length, and by name."""
    run_dir = put(tmp_path, "ruler", 512)
    shorter = report("ruler", 256, arc=[0, 1], wiki=[0, 1])
    longer = report("ruler", 512, arc=[0, 0, 0, 1], wiki=[1, 1])
    both = EvalReport("ruler", longer.measurements, (*shorter.samples, *longer.samples))
    put_report(run_dir, "yarn", both, 1)
    found = {item.task: item.prompts for item in examples(compare(collect(run_dir)))}["ruler"]
    assert [prompt.place for prompt in found] == ["arc, 512 tokens"] * 3 + ["wiki, 512 tokens"]
    assert [prompt.input for prompt in found] == ["Q arc0", "Q arc1", "Q arc3", "Q wiki1"]
