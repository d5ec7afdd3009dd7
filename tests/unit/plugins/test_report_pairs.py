"""What the report says of single samples: pairs of models, cells that failed, prompts to look at."""

from __future__ import annotations

import html
import re
from pathlib import Path

import pytest

from ctxkit.spec import EvalReport, Measurement, Sample
from ctxkit_report.collect import collect
from ctxkit_report.comparison import compare
from ctxkit_report.examples import examples
from ctxkit_report.headline import headline
from ctxkit_report.notation import NONE
from ctxkit_report.page import write_report
from ctxkit_report.paired import paired_rows, pairs
from ctxkit_report.terminal import summary
from tests.unit.plugins.report_runs import answered, passkey, put_report, put_run

BAD = "</script><script>alert(1)</script>"


def said(folder: Path) -> str:
    """Return the headline with plain spaces."""
    return " ".join(str(headline(compare(collect(folder)))).split())


def test_pairs_are_the_same_prompts() -> None:
    """Of ten common prompts seven were gained and one lost: p = 2 (1 + 8) / 2^8; others count for nothing."""
    before = passkey(*answered(512, "0000000110"))
    after = passkey(*answered(512, "1111111010"), *answered(128, "1"), Sample("other", 512, 1.0))
    found = pairs(before, after, 512)
    assert found is not None
    assert (found.count, found.gained, found.lost) == (10, 7, 1)
    assert found.p == pytest.approx(18 / 256)
    assert str(found) == "7 gained, 1 lost, p = 0.07"
    assert not found.clear
    assert pairs(before, after, 128) is None
    assert pairs(None, after, 512) is None


def test_scores_that_are_not_right_or_wrong_have_a_mean_difference() -> None:
    """The same for each pair: then the interval is that very difference; of few pairs there is none."""
    before, after = (
        EvalReport("perplexity", (), tuple(Sample(str(n), 512, n + plus) for n in range(9))) for plus in (0.5, 0.25)
    )
    found = pairs(before, after, 512)
    assert found is not None
    assert found.difference == pytest.approx((-0.25, -0.25, -0.25))
    assert found.clear
    few = pairs(*(EvalReport("f1", (), each.samples[:4]) for each in (before, after)), 512)
    assert few is not None
    assert few.difference is None
    assert not few.clear


def page(folder: Path) -> str:
    """Return the markup of the report."""
    return write_report(folder).read_text(encoding="utf-8")


def test_prompts_that_share_a_text_are_drawn_together() -> None:
    """Six texts of ten prompts each; one text alone gained: ten gained, none lost, and yet no clear difference."""
    before, after = (
        [Sample(str(n), 512, float(n < most), metadata={"sample": n // 10}) for n in range(60)] for most in (30, 40)
    )
    found = pairs(passkey(*before), passkey(*after), 512)
    assert found is not None
    assert (found.gained, found.lost, found.p) == (10, 0, pytest.approx(2 / 2**10))
    assert found.difference is not None
    assert found.difference[:2] == (pytest.approx(1 / 6), 0.0)
    assert not found.clear


def test_short_tasks_have_a_sentence_of_their_own(tmp_path: Path) -> None:
    """They have no context length: only the same samples before and after tell."""
    put_run(tmp_path)
    for stage, right in (("base", "0011"), ("yarn", "0101")):
        put_report(tmp_path, stage, passkey(*answered(512, "0" * 9 if stage == "base" else "1" * 9)))
        short = EvalReport("lm_eval", (Measurement("arc acc", 0, 0.5, 0.1, 0.9, 4),), answered(0, right))
        put_report(tmp_path, stage, short, 1)
    wanted = "Short tasks (lm_eval) are unchanged within noise, on the same 4 samples: 1 gained, 1 lost, p = 1."
    assert wanted in said(tmp_path)
    assert f'<th scope="row">arc acc</th><td>{NONE}</td>' in page(tmp_path)


def extended(folder: Path, base: str, control: str, yarn: str) -> Path:
    """Write a run whose three models were right and wrong like this at 512 tokens."""
    put_run(folder)
    for stage, right in (("base", base), ("control", control), ("yarn", yarn)):
        put_report(folder, stage, passkey(*answered(512, right)))
    return folder


def test_the_headline_goes_by_the_same_prompts(tmp_path: Path) -> None:
    """Eight gained of forty, none lost: no chance, though the intervals meet."""
    run_dir = extended(tmp_path, "0" * 20 + "1" * 20, "0" * 13 + "1" * 27, "0" * 12 + "1" * 28)
    assert said(run_dir).startswith(
        "Window set to 512 tokens (4\N{MULTIPLICATION SIGN}): better than before, "
        "but no clear gain over the control in passkey accuracy."
    )
    assert (
        "Prompt by prompt, on the same 40: against before 8 gained, 0 lost, p = 0.0078; "
        "against the control 1 gained, 0 lost, p = 1 (McNemar's exact test)." in said(run_dir)
    )
    rows = [(row.length, row.models, row.said) for row in paired_rows(compare(collect(run_dir)))]
    assert rows[0] == ("512", "base → yarn", "8 gained, 0 lost, p = 0.0078")


@pytest.mark.parametrize(
    ("by", "words"),
    [
        (0.02, "to 7.10 [5.10, 9.10], which is little but no chance: by +2 % [+2, +2] on the same texts"),
        (0.0, "is unchanged within noise: 7.00 [5.00, 9.00] before, 7.10 [5.10, 9.10] after"),
    ],
)
def test_what_it_cost_within_the_original_window(tmp_path: Path, by: float, words: str) -> None:
    """A small loss in every window is no noise, though the intervals meet; a loss here and a gain there is."""
    put_run(tmp_path)
    for stage, value, plus in (("base", 7.0, 0.0), ("yarn", 7.1, by)):
        noise = 0.5 if stage == "yarn" and not by else 0.0
        scores = [2 + n / 10 + plus + noise * (-1) ** n for n in range(20)]
        found = [Measurement("perplexity", 128, value, value - 2, value + 2, 20)]
        samples = tuple(Sample(str(n), 128, score) for n, score in enumerate(scores))
        put_report(tmp_path, stage, EvalReport("perplexity", tuple(found), samples))
    assert words in said(tmp_path)


def test_what_could_not_be_measured_is_said(tmp_path: Path) -> None:
    """On the page with the reason, and in the terminal."""
    put_run(tmp_path)
    why = {"8192, 0": f"OutOfMemoryError: {BAD}"}
    put_report(tmp_path, "yarn", passkey(*answered(512, "11"), failures=why))
    markup = page(tmp_path)
    assert "yarn, passkey: 8192, 0: OutOfMemoryError: " + html.escape(BAD) in markup
    assert "Not measured: 1 cell, the first yarn, passkey: 8192, 0: OutOfMemoryError" in " ".join(
        summary(tmp_path).split()
    )


def test_lengths_beyond_the_window_are_flagged(tmp_path: Path) -> None:
    """Beyond what the model was extended to, or beyond its own window where it was not extended."""
    put_run(tmp_path)
    put_report(tmp_path, "yarn", passkey(*answered(256, "1"), *answered(512, "1"), *answered(1024, "1")))
    notes = [row.note for row in compare(collect(tmp_path)).blocks()[0].rows]
    assert notes == ["", "extended window", "beyond window"]


def test_a_model_that_was_not_extended_is_not_called_so(tmp_path: Path) -> None:
    """Trained from the untouched model, without scaling."""
    model = {"name": "model", "from": None, "rope": None, "length": 128, "steps": 0}
    put_run(tmp_path, result="tuned", stages=[model, {"name": "tuned", "from": "model", "length": 512, "steps": 4}])
    for stage in ("model", "tuned"):
        put_report(tmp_path, stage, passkey(*answered(128, "11"), *answered(256, "10")))
    comparison = compare(collect(tmp_path))
    assert [(column.title, column.stage) for column in comparison.columns] == [
        ("Before", "model"),
        ("Trained", "tuned"),
    ]
    assert said(tmp_path).startswith("Measured at up to 256 tokens.")
    assert "extended" not in re.sub(r"<(style|script).*?</\1>|<[^>]*>", "", page(tmp_path), flags=re.DOTALL).lower()


def test_an_untouched_model_is_called_so(tmp_path: Path) -> None:
    """As `ctxkit eval` leaves it: its window is its own, whatever it was before somebody extended it."""
    put_run(tmp_path, result="model", stages=[{"name": "model", "from": None, "length": 512, "steps": 0}])
    put_report(tmp_path, "model", passkey(*answered(128, "1"), *answered(512, "1"), *answered(1024, "0")))
    comparison = compare(collect(tmp_path))
    assert [column.title for column in comparison.columns] == ["Model"]
    assert [row.note for row in comparison.blocks()[0].rows] == ["original window", "", "beyond window"]
    assert "no control" not in page(tmp_path)


def test_depths_are_heatmaps_and_lengths_a_table(tmp_path: Path) -> None:
    """Of any eval with an accuracy by depth."""
    put_run(tmp_path)
    report = passkey(*answered(512, "10"))
    put_report(tmp_path, "yarn", EvalReport("needle", report.measurements, report.samples))
    markup = page(tmp_path)
    assert "needle, Extended: yarn</b>" in markup
    table = markup.partition("<caption>needle</caption>")[2].partition("</table>")[0]
    assert table.count('<th scope="row">') == 1


def test_wrong_and_right_prompts_are_shown_with_every_answer(tmp_path: Path) -> None:
    """Two wrong ones of a length and a right one; of a long prompt its end; markup and control characters as text."""
    put_run(tmp_path)
    long = "x" * 5000 + f"What is the key? {BAD}\x1b[31m"
    for stage, right in (("base", "00000"), ("yarn", "00011")):
        texts = {"input": long, "target": "12345", "output": f"I am {stage} {BAD}"}
        put_report(tmp_path, stage, passkey(*answered(512, right, **texts)))
    (found,) = examples(compare(collect(tmp_path)))
    assert [prompt.answers[-1].score for prompt in found.prompts] == ["wrong", "wrong", "right"]
    assert [answer.model for answer in found.prompts[0].answers] == ["Before: base", "Extended: yarn"]
    assert found.prompts[0].input.startswith("…xxx")
    assert len(found.prompts[0].input) < 1100
    markup = page(tmp_path)
    assert "alert(1)</script>" not in markup
    assert "I am yarn &lt;/script&gt;" in markup
    assert "⟨ESC⟩[31m" in markup
