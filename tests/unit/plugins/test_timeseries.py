"""Simulated series, their text, and the baselines, against solvers, formulas and hand-made cases."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from ctxkit.errors import DataError
from ctxkit.spec import Context
from ctxkit.spec.intervals import bootstrap_mean, wilson
from ctxkit_timeseries.baselines import cycle, last_cycle, persistence
from ctxkit_timeseries.dynamics import Rates, solve
from ctxkit_timeseries.encoding import Form, Scale, encode
from ctxkit_timeseries.options import ForecastOptions, LotkaVolterraOptions
from ctxkit_timeseries.pairing import paired

ALPHA, BETA, DELTA, GAMMA = np.array([1.1, 0.7]), np.array([0.4, 0.9]), np.array([0.1, 1.2]), np.array([0.4, 0.8])
START = np.array([[10.0, 5.0], [0.5, 0.7]])


def source(**changes: Any) -> LotkaVolterraOptions:
    """Return a small source."""
    return LotkaVolterraOptions.model_validate({"kind": "lotka_volterra", "trajectories": 20, "points": 60, **changes})


def test_solution_is_that_of_another_solver() -> None:
    """Two systems agree with an adaptive method of eighth order at every point."""
    integrate = pytest.importorskip("scipy.integrate")
    found = solve(Rates(ALPHA, BETA, DELTA, GAMMA), START, points=50, interval=0.25, substeps=20)
    for index in range(2):
        a, b, d, g = (rate[index] for rate in (ALPHA, BETA, DELTA, GAMMA))

        def change(_time: float, state: Any, a: float = a, b: float = b, d: float = d, g: float = g) -> list[float]:
            prey, predator = state
            return [a * prey - b * prey * predator, d * prey * predator - g * predator]

        times = np.arange(50) * 0.25
        expected = integrate.solve_ivp(
            change, (0, times[-1]), START[index], "DOP853", times, rtol=1e-12, atol=1e-12
        ).y.T
        np.testing.assert_allclose(found[index], expected, rtol=1e-6)


def test_solution_keeps_what_the_equations_conserve_to_the_fourth_order() -> None:
    """`d x - g ln x + b y - a ln y` stays; with half the step it drifts at least eleven times less."""

    def drift(substeps: int) -> float:
        prey, predator = np.moveaxis(solve(Rates(ALPHA, BETA, DELTA, GAMMA), START, 40, 0.5, substeps), -1, 0)
        rates = (rate[:, None] for rate in (ALPHA, BETA, DELTA, GAMMA))
        a, b, d, g = rates
        kept = d * prey - g * np.log(prey) + b * predator - a * np.log(predator)
        return float(np.abs(kept - kept[:, :1]).max())

    assert drift(16) < 1e-6
    assert drift(4) / drift(8) > 11


def test_splits_share_no_trajectory_however_many_there_are() -> None:
    """Texts and ids of the two splits are apart, and a longer list begins with the shorter one."""
    train = [document.id for document in source(trajectories=95).build(Context())]
    held = [document.id for document in source(split="held_out").build(Context())]
    assert len(set(train)) == 95
    assert len(set(held)) == 20
    assert not set(train) & set(held)
    indices = {int(name.rpartition("/")[2]) for name in train}
    assert indices | {9, 19, 29, 39, 49, 59, 69, 79, 89, 99} == set(range(105))
    few = [document.text for document in source(trajectories=3).build(Context())]
    assert [document.text for document in source(trajectories=300).build(Context())][:3] == few


def test_documents_follow_the_family_and_not_the_training() -> None:
    """The seed of the recipe changes nothing, that of the family everything."""
    first = [document.text for document in source().build(Context(seed=0))]
    assert [document.text for document in source().build(Context(seed=1))] == first
    assert not source().uses_seed()
    other = {document.text for document in source(family_seed=1).build(Context())}
    assert not other & set(first)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"interval": 2.0, "substeps": 1}, "(?s)diverges.*raise `substeps`, such as to 2"),
        ({"growth": [5, 6], "interval": 2.0, "substeps": 1}, "diverges"),
        ({"interval": 1.0, "substeps": 1}, "(?s)are off by .*2 decimals.*raise `substeps`"),
        ({"interval": 1.0, "substeps": 2}, "are off by"),
        ({"substeps": 2, "precision": 6}, "are off by .* 6 decimals"),
        ({"noise": 400.0}, "(?s)noise of 400.0 .*lower `noise`"),
    ],
)
def test_a_solver_that_is_off_is_refused(options: dict[str, Any], said: str) -> None:
    """Steps that are too long diverge, or are wrong in what is written; noise may be beyond all numbers."""
    with pytest.raises(DataError, match=said):
        list(source(trajectories=300, **options).build(Context()))


def test_a_solver_that_is_said_to_do_is_right() -> None:
    """With the substeps that the refusal proposes, everything written is that of 200 of them, to the last decimal."""
    options: dict[str, Any] = {"trajectories": 40, "interval": 1.0, "scale_quantile": 1.0}
    with pytest.raises(DataError, match="substeps") as refused:
        list(source(**options, substeps=2).build(Context()))
    proposed = int(str(refused.value).rpartition(" ")[2])
    texts = (
        [document.text for document in source(**options, substeps=count).build(Context())] for count in (proposed, 200)
    )
    for found, exact in zip(*texts, strict=True):
        form = Form.of(exact)
        assert np.abs(form.read(found) - form.read(exact)).max() < 0.011


def test_noise_is_that_of_the_logarithm() -> None:
    """What is observed differs from what is true by a factor whose logarithm has the stated deviation."""
    settings = {"precision": 6, "scale_quantile": 1.0, "scale_points": 1}

    def states(noise: float) -> np.ndarray:
        found = []
        for document in source(noise=noise, **settings).build(Context()):
            units = [float(document.metadata[f"unit_{name}"]) for name in ("prey", "predator")]
            found.append(Form.of(document.text).read(document.text) * units)
        return np.stack(found)

    logs = np.log(states(0.05) / states(0.0))
    assert logs.std() == pytest.approx(0.05, rel=0.05)
    assert logs.mean() == pytest.approx(0, abs=0.005)


def test_scale_is_that_of_llmtime() -> None:
    """Of 0 to 4 the 0.95 quantile is 3.8; with an offset of 0.3 zero lies 1.2 lower, so the unit is 5."""
    history = np.stack([np.arange(5.0), 10 * np.arange(5.0)], axis=1)
    plain, moved = Scale.of(history, 0.95, None), Scale.of(history, 0.95, 0.3)
    np.testing.assert_allclose([plain.shift, plain.unit], [[0, 0], [3.8, 38]])
    np.testing.assert_allclose([moved.shift, moved.unit], [[-1.2, -12], [5, 50]])
    np.testing.assert_allclose(moved(np.array([[3.8, 38.0]])), [[1, 1]])
    still = Scale.of(np.zeros((4, 1)), 0.9, 0.3)
    assert np.isfinite(still(np.ones((1, 1)))).all()


def test_scale_knows_the_front_alone() -> None:
    """Trajectories of different lengths begin with the same text where the same points decide on the scale."""
    short, long = (next(iter(source(points=points, scale_points=20).build(Context()))) for points in (25, 60))
    assert long.text.startswith(short.text)
    assert short.metadata["scale_points"] == 20


@pytest.mark.parametrize(
    ("values", "decimals", "text", "read"),
    [
        ([[0.257, 1.5]], 2, "0.25,1.50;", [[0.255, 1.505]]),
        ([[-0.3, 12.345], [0.0, 0.29]], 2, "-0.30,12.34;0.00,0.29;", [[-0.305, 12.345], [0.005, 0.295]]),
        ([[7.9], [10.0]], 0, "7;10;", [[7.5], [10.5]]),
        ([[0.0625]], 4, "0.0625;", [[0.06255]]),
    ],
)
def test_encoding_by_hand(values: list, decimals: int, text: str, read: list) -> None:
    """Decimals are cut off, and what is read back is the middle of what they leave open."""
    assert encode(np.array(values), decimals) == text
    np.testing.assert_allclose(Form.of(text).read(text), read)


@pytest.mark.parametrize("spaced", [False, True])
@pytest.mark.parametrize("decimals", [0, 1, 2, 3, 6])
def test_encoding_comes_back_within_half_of_the_last_decimal(decimals: int, *, spaced: bool) -> None:
    """Whatever the sign and size."""
    values = np.random.default_rng(decimals).normal(0, 20, (500, 3))
    text = encode(values, decimals, spaced=spaced)
    assert Form.of(text) == Form(3, decimals)
    assert np.abs(Form.of(text).read(text) - values).max() <= 0.5 * 10.0**-decimals + 1e-8
    assert (" 1" in text) is spaced


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("0.25,1.50;0.30,1.6", 1),
        ("0.25,1.50;0.30,1.6;0.30,1.60;", 1),
        ("0.25,1.50;0.30;", 1),
        ("0.25,1.50;0.30,1.60,1.70;", 1),
        ("0.25,1.50;oh,1.60;", 1),
        ("0.25,1.50;;", 1),
        (" 0.25, 1.50;\n0.30,1.60; and", 2),
        ("0.25,1.50", 0),
        ("", 0),
        ("9999999999.25,1.50;", 0),
        ("٣.25,1.50;", 0),
    ],
)
def test_reading_ends_at_the_first_step_of_another_form(text: str, steps: int) -> None:
    """No part of a step counts, and nothing after a bad one."""
    assert Form(2, 2).read(text).shape == (steps, 2)


def test_cycle_of_a_wave() -> None:
    """The period of waves is found once a half more than it is to be seen, and a ramp has none."""
    times = np.arange(60)
    wave = np.stack([np.sin(2 * math.pi * times / 20), 2 + np.cos(2 * math.pi * times / 20)], axis=1)
    assert cycle(wave) == 20
    assert cycle(wave[:32]) == 20
    assert cycle(wave[:24]) is None
    assert cycle(wave[:15]) is None
    assert cycle(times[:, None].astype(float)) is None
    assert cycle(wave[:1]) is None


def test_baselines_by_hand() -> None:
    """The last step stays; the last cycle goes on, also beyond its own length."""
    history = np.array([[0.0], [1.0], [2.0], [1.0]] * 3)
    np.testing.assert_array_equal(persistence(history, 3), [[1], [1], [1]])
    np.testing.assert_array_equal(last_cycle(history, 6), [[0], [1], [2], [1], [0], [1]])
    np.testing.assert_array_equal(last_cycle(history[:3], 2), [[2], [2]])


def test_intervals_by_formula() -> None:
    """The bootstrap of many values is near the normal interval of their mean; Wilson's of 49 of 50 is tabled."""
    values = np.random.default_rng(1).normal(3, 2, 400)
    low, high = bootstrap_mean(values, seed=0)
    reach = 1.96 * values.std() / math.sqrt(400)
    assert (low, high) == pytest.approx((values.mean() - reach, values.mean() + reach), abs=0.03)
    assert wilson(49, 50) == pytest.approx((0.8950, 0.9965), abs=1e-4)
    assert wilson(0, 10)[0] == 0


def sweep(folder: Path, scores: dict[str, dict[str, float]], task: str = "forecast") -> Path:
    """Write a sweep over the length of rows and the seed: by name of a point, the error of each series."""
    points = []
    for name, errors in scores.items():
        length, seed = name.split("-")
        values = {"data.chunker.length": int(length), "train.seed": int(seed)}
        points.append({"name": name, "values": values, "status": "done" if errors else "missing"})
        if errors:
            samples = [{"id": series, "length": 64, "score": score} for series, score in errors.items()]
            (folder / name / "evals" / "only").mkdir(parents=True)
            (folder / name / "run.json").write_text(json.dumps({"result": "only"}))
            report = {"task": task, "measurements": [], "samples": samples}
            (folder / name / "evals/only/0-it.json").write_text(json.dumps(report))
    (folder / "sweep.json").write_text(json.dumps({"points": points, "results": []}))
    return folder


def test_arms_are_compared_series_by_series(tmp_path: Path) -> None:
    """Series differ by far, arms by 0.1 in each: seeds are averaged, what is not done is left out."""
    series = {f"s{n}": float(n) for n in range(20)}
    less = {name: error - 0.2 for name, error in series.items()}
    folder = sweep(tmp_path, {"128-0": series, "128-1": series, "512-0": less, "512-1": series, "768-0": {}})
    said = paired(folder)
    assert said is not None
    assert said.splitlines()[0].startswith("forecast: mean absolute error less than with data.chunker.length 128,")
    assert said.splitlines()[1:] == [
        "  64 tokens of history, data.chunker.length 512: 0.1000 [0.1000, 0.1000], 20 series"
    ]


def test_sweep_without_forecasts_or_arms_says_nothing(tmp_path: Path) -> None:
    """One arm has nothing to be compared with, and other evals are none of ours."""
    (tmp_path / "one").mkdir()
    (tmp_path / "other").mkdir()
    assert paired(sweep(tmp_path / "one", {"128-0": {"s": 1.0}, "128-1": {"s": 2.0}})) is None
    assert paired(sweep(tmp_path / "other", {"128-0": {"s": 1.0}, "512-0": {"s": 2.0}}, "passkey")) is None


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: source(growth=[1.3, 0.7]), "growth as"),
        (lambda: source(prey=[0, 1]), "greater than 0"),
        (lambda: source(scale_points=61), "scale_points of at most points, 60"),
        (lambda: source(split="validation"), "train"),
        (
            lambda: ForecastOptions.model_validate(
                {"kind": "forecast", "source": source(), "lengths": [64, 64]}
            ),
            "stated twice in lengths",
        ),
    ],
)  # fmt: skip
def test_options_that_cannot_be(make: Callable[[], object], said: str) -> None:
    """What makes no sense is refused with the key."""
    with pytest.raises(ValidationError, match=said):
        make()
