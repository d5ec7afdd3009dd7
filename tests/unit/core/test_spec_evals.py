"""The parts of the contract that evals use: intervals, the paired test, cells, the report as JSON."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binomtest

from ctxkit.errors import DataError, StoppedError
from ctxkit.spec import Context, EvalReport, Measurement, Sample
from ctxkit.spec.intervals import bootstrap_mean, mcnemar, wilson


@pytest.mark.parametrize(("hits", "count"), [(0, 10), (3, 7), (50, 100), (500, 500)])
def test_wilson_equals_scipy(hits: int, count: int) -> None:
    """The interval is that of scipy."""
    known = binomtest(hits, count).proportion_ci(method="wilson")
    assert wilson(hits, count) == pytest.approx((known.low, known.high), abs=1e-12)


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (1, 0), (5, 5), (12, 3), (0, 40), (700, 820)])
def test_mcnemar_equals_the_binomial_test(gained: int, lost: int) -> None:
    """The exact test is the binomial one on the pairs that differ."""
    known = binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
    assert mcnemar(gained, lost) == pytest.approx(known, rel=1e-9)


def test_bootstrap_of_weighted_means() -> None:
    """Near the interval of the normal distribution for many values; weights count like repeated values."""
    values = np.random.default_rng(3).normal(2, 1, size=4000)
    low, high = bootstrap_mean(values, seed=0)
    half = 1.96 * values.std() / math.sqrt(4000)
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.2 * half)
    assert bootstrap_mean(values, seed=0, weights=[2.0] * 4000) == pytest.approx((low, high))
    assert bootstrap_mean([1.0, 5.0], seed=0, weights=[1e9, 1.0])[0] == pytest.approx(1)


def _fails() -> int:
    raise DataError("no room\nfor it")


def test_a_cell_that_fails_costs_no_other() -> None:
    """The reason is kept in one line; a stop goes through."""
    cells = Context().cells("task", {"a": lambda: 1, "b": _fails, "c": lambda: [2]})
    assert cells.found == {"a": 1, "c": [2]}
    assert cells.failed == {"b": "DataError: no room"}
    unforeseen = Context().cells("task", {"a": lambda: {}["key"], "b": lambda: 1})
    assert (unforeseen.found, unforeseen.failed) == ({"b": 1}, {"a": "KeyError: 'key'"})

    def stopped() -> None:
        raise StoppedError("stop")

    with pytest.raises(StoppedError):
        Context().cells("task", {"a": stopped})


def test_report_as_json() -> None:
    """What is written is what is read, and files of earlier versions are read too."""
    measured = Measurement("perplexity", 64, 3.0, 2.0, 4.0, 5, positions=(16, 32))
    report = EvalReport("perplexity", (measured,), (Sample("a", 64, 1.0, output="7"),), {"seed": 1}, {"128": "why"})
    assert EvalReport.from_json(report.to_json()) == report
    old = {"task": "t", "measurements": [{"metric": "m", "length": 1, "value": 0, "low": 0, "high": 1, "count": 1}]}
    assert EvalReport.from_json({**old, "samples": [], "metadata": {}}).measurements[0].positions is None
