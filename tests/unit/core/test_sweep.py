"""The points of a sweep, and what is made of their measurements."""

from __future__ import annotations

import csv
import json
import math
import signal
import subprocess
import sys
import time
from pathlib import Path
from statistics import fmean, stdev

import pytest

from ctxkit.errors import RecipeError
from ctxkit.sweep import Point, Sweep, parse_all, points, pooled, rows, run_points, terminal, write_csv


def test_values_are_yaml() -> None:
    """Numbers, words, lists and null are what YAML makes of them."""
    assert parse_all(["train.seed=0,1"]) == {"train.seed": (0, 1)}
    assert parse_all(["rope.kind=yarn,linear"]) == {"rope.kind": ("yarn", "linear")}
    assert parse_all(["a=[1, 2],null,1e-4"]) == {"a": ([1, 2], None, 1e-4)}


@pytest.mark.parametrize("text", ["train.seed", "train.seed=", "=1", "a=1,1", "a=[1"])
def test_other_forms_are_refused(text: str) -> None:
    """With the option that was typed."""
    with pytest.raises(RecipeError, match="--over"):
        parse_all([text])


def test_all_combinations_in_order() -> None:
    """The last path changes fastest; a name has the last word of each path, or as many as tell them apart."""
    found = points({"data.chunker.length": (128, 512), "train.seed": (0, 1)})
    assert [point.name for point in found] == ["length-128_seed-0", "length-128_seed-1", "length-512_seed-0",
                                               "length-512_seed-1"]  # fmt: skip
    assert found[1].sets == ("data.chunker.length=128", "train.seed=1")
    assert [point.name for point in points({"a.x": (1,), "b.x": (2,)})] == ["a.x-1_b.x-2"]


def test_names_are_safe_and_distinct() -> None:
    """Whatever the values are, a folder can have the name, and no two points share one."""
    values = ("../x", "..x", {"kind": "yarn"}, 1, -1, "x" * 50, "x" * 51, "")
    names = [point.name for point in points({"a./tmp/x": values})]
    assert len(set(names)) == len(values)
    assert names == [points({"a./tmp/x": (value,)})[0].name for value in values], "the order of values changes no name"
    assert not [name for name in names if "/" in name or ".." in name]


def test_nothing_and_too_much_are_refused() -> None:
    """Both are mistakes."""
    with pytest.raises(RecipeError, match="nothing says what to sweep over"):
        points({})
    with pytest.raises(RecipeError, match="more than 1000"):
        points({"a": tuple(range(40)), "b": tuple(range(40))})


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    """A sweep over a length and three seeds; the last point was not run."""
    made = Sweep("recipe.yaml", tmp_path, tuple(points({"length": (128, 512), "seed": (0, 1, 2)})))
    for number, point in enumerate(made.points[:-1]):
        folder = made.directory(point)
        (folder / "evals/yarn").mkdir(parents=True)
        stages = [{"name": "yarn", "length": 64}]
        (folder / "run.json").write_text(json.dumps({"status": "done", "result": "yarn", "stages": stages}))
        (folder / "metrics.jsonl").write_text('{"stage": "yarn", "loss": 3.0}\n{"stage": "yarn", "loss": 2.5}\n')
        item = {"metric": "accuracy", "length": 64, "value": number / 10, "low": 0.0, "high": 1.0, "count": 9}
        report = {"task": "passkey", "measurements": [{**item, "depth": None}, {**item, "depth": 0.5}]}
        (folder / "evals/yarn/0-passkey.json").write_text(json.dumps(report))
    return made


def test_spread_over_seeds(sweep: Sweep) -> None:
    """Mean and Student's interval over the seeds, by a hand-computed case: t is 4.303 for 3 seeds, 12.706 for 2."""
    found = {(item.values["length"], item.metric): item for item in pooled(rows(sweep))}
    three, two = found[128, "accuracy"], found[512, "accuracy"]
    reach = 4.303 * stdev([0.0, 0.1, 0.2]) / math.sqrt(3)
    assert (three.mean, three.low, three.high) == pytest.approx((0.1, 0.1 - reach, 0.1 + reach))
    assert two.mean == pytest.approx(fmean([0.3, 0.4]))
    assert (three.runs, two.runs) == (3, 2)
    assert two.high is not None
    assert two.high - two.mean == pytest.approx(12.706 * stdev([0.3, 0.4]) / math.sqrt(2))
    assert found[128, "loss"].mean == 2.5


def test_a_single_run_has_the_interval_of_its_samples(sweep: Sweep) -> None:
    """And the table says which interval is which."""
    one = Sweep(sweep.recipe, sweep.folder, sweep.points[:1])
    found = pooled(rows(one))
    assert (found[0].low, found[0].high, found[0].interval) == (0.0, 1.0, "95 % over the samples of one run")
    assert "intervals: 95 % over the samples of one run" in terminal(found)


def test_table_has_a_line_for_each_measurement(sweep: Sweep, tmp_path: Path) -> None:
    """With the swept values of its point; what was not run has none."""
    write_csv(tmp_path / "sweep.csv", rows(sweep), ["length", "seed"])
    lines = list(csv.reader((tmp_path / "sweep.csv").open()))
    assert lines[0] == ["point", "length", "seed", "task", "metric", "length", "value", "low", "high", "count"]
    assert len(lines) == 1 + 5 * 2
    assert lines[1][:7] == ["length-128_seed-0", "128", "0", "passkey", "accuracy", "64", "0.0"]


class Scripted(Sweep):
    """A sweep whose points are shell commands."""

    def words(self, point: Point) -> list[str]:
        return ["sh", "-c", f"echo {point.name} >> {self.folder}/ran; exit {point.values['code']}"]


@pytest.mark.parametrize(
    ("codes", "fail_fast", "status", "ran"),
    [
        ((0, 0, 0), False, 0, 3),
        ((0, 3, 0), False, 1, 3),  # the others are run
        ((0, 3, 0), True, 3, 2),
        ((0, 75, 0), False, 75, 2),  # asked to stop
        ((0, 130, 0), False, 130, 2),
    ],
)
def test_exit_status(tmp_path: Path, codes: tuple[int, ...], fail_fast: bool, status: int, ran: int) -> None:
    """A point that fails is said and the others run, unless told otherwise; a stop ends the sweep."""
    said: list[str] = []
    made = tuple(Point(f"p{number}", {"code": code}) for number, code in enumerate(codes))
    swept = Scripted("recipe.yaml", tmp_path, made)
    assert run_points(swept, made, said.append, fail_fast=fail_fast) == status
    assert len((tmp_path / "ran").read_text().split()) == ran
    assert bool([text for text in said if "failed with exit code 3" in text]) == (3 in codes)


def test_a_path_given_twice_is_refused() -> None:
    """Neither list of values wins in silence."""
    with pytest.raises(RecipeError, match="is given twice"):
        parse_all(["train.seed=0,1", "train.seed=7"])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_point_that_is_told_to_stop_may_save(number: int, tmp_path: Path) -> None:
    """What stops the sweep goes on to its point once, which takes its time, and its exit status is the sweep's."""
    point = tmp_path / "point.py"
    point.write_text(
        "import signal, sys, time\n"
        "def stop(number, frame):\n"
        "    time.sleep(1.5)\n"
        "    open(sys.argv[1], 'a').write('saved ')\n"
        "    sys.exit(75)\n"
        "signal.signal(signal.SIGTERM, stop), signal.signal(signal.SIGINT, stop)\n"
        "open(sys.argv[1], 'w').write('began ')\n"
        "time.sleep(30)\n"
    )
    words = [sys.executable, str(point), str(tmp_path / "said")]
    line = f"from ctxkit.sweep.running import _ended; raise SystemExit(_ended({words!r}))"
    sweep = subprocess.Popen([sys.executable, "-c", line])
    while not (tmp_path / "said").exists() or not (tmp_path / "said").read_text():
        time.sleep(0.05)
    sweep.send_signal(number)
    assert sweep.wait(20) == 75
    assert (tmp_path / "said").read_text() == "began saved "
