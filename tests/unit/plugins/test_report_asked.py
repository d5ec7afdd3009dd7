"""Nothing is claimed where the same was not asked, at lengths that were not measured, or of too few texts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ctxkit.spec import EvalReport, Measurement, Sample
from ctxkit_report.collect import collect
from ctxkit_report.compare_page import lead, summary
from ctxkit_report.comparison import compare
from ctxkit_report.headline import headline
from ctxkit_report.paired import pairs
from ctxkit_report.rivals import rivals, tables
from tests.unit.plugins.report_runs import answered, passkey, put_report, put_run


def said(folder: Path) -> str:
    """Return the headline with plain spaces and letters."""
    return " ".join(str(headline(compare(collect(folder)))).replace("\N{MULTIPLICATION SIGN}", "x").split())


def perplexity(*ids: str, value: float, documents: int, length: int = 512) -> EvalReport:
    """Return a report whose interval has no width, over so many documents."""
    samples = tuple(
        Sample(name, length, value, metadata={"document": place % documents}) for place, name in enumerate(ids)
    )
    metrics = [Measurement(name, length, value, value, value, len(ids)) for name in ("perplexity", "perplexity_tail")]
    return EvalReport("perplexity", tuple(metrics), samples, {"documents": documents})


def two(folder: Path, first: EvalReport, second: EvalReport) -> tuple[Path, Path]:
    """Write two runs, `a` and `b`, each with one report of its result."""
    for name, report in (("a", first), ("b", second)):
        put_report(put_run(folder / name, name=name), "yarn", report)
    return folder / "a", folder / "b"


@pytest.mark.parametrize(
    ("lengths", "words"),
    [
        ((128,), "Window set to 512 tokens (4x), measured at up to 128 tokens."),
        ((128, 256), "Window set to 512 tokens (4x): better than before at 256 tokens, not measured at 512."),
        ((128, 512), "4x the window: from 128 to 512 tokens."),
    ],
)
def test_a_window_is_claimed_only_where_it_was_measured(tmp_path: Path, lengths: tuple[int, ...], words: str) -> None:
    """At the new window or beyond; what was better within the old one is no longer window."""
    put_run(tmp_path)
    for stage, right in (("base", "0" * 20), ("yarn", "1" * 20)):
        put_report(tmp_path, stage, passkey(*(each for length in lengths for each in answered(length, right))))
    assert said(tmp_path).startswith(words)


def test_runs_that_were_asked_other_texts_are_not_ranked(tmp_path: Path) -> None:
    """Six texts each, of which none is the same: no winner, no order, and the table says so."""
    ones, others = ([f"{name}{n}" for n in range(6)] for name in "xy")
    found = rivals(two(tmp_path, perplexity(*ones, value=9, documents=6), perplexity(*others, value=5, documents=6)))
    assert lead(found) == (
        "The runs were not asked the same in perplexity (last quarter) at 512 tokens, so none is called ahead"
    )
    assert all("not asked the same and so not ranked: a 9.00" in sentence for sentence in summary(found))
    assert [line.length for table in tables(found) for line in table.lines] == ["512 (not asked the same)"] * 2


@pytest.mark.parametrize(("count", "ahead"), [(1, False), (4, False), (5, True)])
def test_intervals_of_few_texts_prove_nothing(tmp_path: Path, count: int, ahead: bool) -> None:
    """Twenty texts of so many documents, every interval without width: below five documents no run is ahead."""
    ids = [str(n) for n in range(20)]
    found = rivals(two(tmp_path, *(perplexity(*ids, value=value, documents=count) for value in (9, 5))))
    wanted = "b is ahead" if ahead else "No run is clearly ahead"
    assert lead(found) == f"{wanted} in perplexity (last quarter) at 512 tokens"


def test_few_texts_are_called_few(tmp_path: Path) -> None:
    """A loss of the whole window of one text is neither noise nor proof."""
    put_run(tmp_path)
    for stage, value in (("base", 5), ("yarn", 9)):
        reports = [perplexity("a", value=value, documents=1, length=length) for length in (128, 512)]
        samples, metrics = (
            tuple(each for report in reports for each in getattr(report, name)) for name in ("samples", "measurements")
        )
        put_report(tmp_path, stage, replace(reports[0], samples=samples, measurements=metrics))
    text = said(tmp_path)
    assert "without a clear gain" in text
    rose = "rose from 5.00 [5.00, 5.00] to 9.00 [9.00, 9.00], of too few texts to tell."
    assert f"At 512 tokens perplexity (last quarter) {rose}" in text
    assert f"Within the original 128 tokens perplexity (all tokens) {rose}" in text


def test_without_samples_the_metadata_tells(tmp_path: Path) -> None:
    """The hash of what was asked, and the count of documents."""
    report = replace(perplexity(*"abcdef", value=9, documents=6), samples=())
    better = replace(perplexity(*"abcdef", value=5, documents=6), samples=())
    one, other, few = ({"texts": "1"}, {"texts": "2"}, {"texts": "1", "documents": 4})
    for metadata, words in ((one, "b is ahead"), (other, "not asked the same"), (few, "No run is clearly ahead")):
        folders = two(tmp_path, replace(report, metadata=one), replace(better, metadata=metadata))
        assert words in lead(rivals(folders))


def test_a_model_before_that_was_asked_otherwise_is_not_compared(tmp_path: Path) -> None:
    """Nor is the control; both are named."""
    put_run(tmp_path)
    for stage, right in (("base", "0" * 19), ("control", "0" * 18), ("yarn", "1" * 20)):
        put_report(tmp_path, stage, passkey(*answered(512, right)))
    assert said(tmp_path).startswith(
        "Window set to 512 tokens (4x), not compared with the model before. "
        "At 512 tokens passkey accuracy is 100 % [90, 100]; the model before and the control were not asked the same."
    )


def test_questions_share_the_text_and_not_the_row(tmp_path: Path) -> None:
    """Six texts with ten rows each, of which one text gained: the rows are no texts of their own."""
    before, after = (
        [Sample(str(n), 512, float(n < most), metadata={"sample": n // 10, "document": f"row {n}"}) for n in range(60)]
        for most in (30, 40)
    )
    found = pairs(passkey(*before), passkey(*after), 512)
    assert found is not None
    assert found.p is not None
    assert found.p < 0.05
    assert not found.clear


def test_few_shared_texts_are_no_proof() -> None:
    """Four texts of ten prompts, one of them gained: p = 2 / 2^10, and yet it is one text."""
    before, after = (
        [Sample(str(n), 512, float(n < most), metadata={"sample": n // 10}) for n in range(40)] for most in (20, 30)
    )
    found = pairs(passkey(*before), passkey(*after), 512)
    assert found is not None
    assert found.p == pytest.approx(2 / 2**10)
    assert not found.clear
    assert found.tested == "10 gained, 0 lost, p = 0.002, though over 4 texts alone"
