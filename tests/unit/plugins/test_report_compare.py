"""Several runs on one page, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from ctxkit.cli import main
from ctxkit.errors import CtxkitError
from ctxkit.spec import EvalReport, Measurement
from ctxkit_report.compare_page import lead, render, summary
from ctxkit_report.rivals import differences, losses, overlaid, paired, rivals, tables
from tests.unit.plugins.report_runs import answered, passkey, put_report, put_run

RECIPE = "name: {name}\nstages:\n- name: yarn\n  train: {{learning_rate: {rate}, max_steps: 4}}\n"


def put(folder: Path, name: str, right: str, rate: str) -> Path:
    """Write a run with a recipe and answers at 256, 512 and, beyond the window, 1024 tokens."""
    put_run(folder, name=name)
    (folder / "recipe.yaml").write_text(RECIPE.format(name=name, rate=rate))
    put_report(folder, "yarn", passkey(*answered(256, right), *answered(512, right), *answered(1024, "0000")))
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Path, Path]:
    """Two runs, the second of which got six more of eight right, for twice the learning rate."""
    return put(tmp_path / "a", "slow", "11000000", "1e-5"), put(tmp_path / "b", "fast</script>", "11111111", "2e-5")


def test_the_best_comes_first_at_the_length_that_tells(runs: tuple[Path, Path]) -> None:
    """The longest within the window, which both measured."""
    (said,) = summary(rivals(runs))
    said = " ".join(said.split())
    assert said == "At 512 tokens passkey accuracy, best first: fast</script> 100 % [90, 100], slow 25 % [15, 35]."


def test_the_first_is_called_ahead_only_beyond_chance(runs: tuple[Path, Path]) -> None:
    """Six of eight gained are beyond chance, one of eight is not."""
    assert lead(rivals(runs)) == "fast</script> is ahead in passkey accuracy at 512 tokens"
    put(runs[0], "slow", "11111110", "1e-5")
    assert lead(rivals(runs)) == "No run is clearly ahead in passkey accuracy at 512 tokens"


def test_runs_are_paired_with_the_first(runs: tuple[Path, Path]) -> None:
    """Six gained, none lost: p = 2 / 2^6."""
    rows = [(row.length, row.models, row.said) for row in paired(rivals(runs))]
    assert rows[1] == ("512", "slow → fast</script>", "6 gained, 0 lost, p = 0.031")


def test_only_what_differs_is_shown_of_the_recipes(runs: tuple[Path, Path]) -> None:
    """As it is written, at the name of the stage; not what the runs are called."""
    (row,) = differences(rivals(runs))
    assert (row.key, row.values) == ("stages.yarn.train.learning_rate", ("1e-5", "2e-5"))


def test_lines_and_cells_are_those_of_the_runs(runs: tuple[Path, Path]) -> None:
    """A line a run, a row a length, and the loss of the result over its own steps."""
    found = rivals(runs)
    (table,) = tables(found)
    assert [line.length for line in table.lines] == ["256", "512", "1024"]
    (chart,) = overlaid(found)
    assert [(each.label, [point.y for point in each.points]) for each in chart.series] == [
        ("slow", [0.25, 0.25, 0.0]),
        ("fast</script>", [1.0, 1.0, 0.0]),
    ]
    loss = losses(found)
    assert loss is not None
    assert [(point.x, point.y) for point in loss.series[0].points] == [(1, 5.0), (2, 2.5), (3, 5 / 3), (4, 1.25)]
    page = render(found)
    assert "fast</script>" not in page
    assert "fast&lt;/script&gt;" in page


@pytest.mark.parametrize(
    ("folders", "names"),
    [(("x/a", "x/b"), ["same (a)", "same (b)"]), (("x/a", "y/a"), ["1: same", "2: same"])],
)
def test_runs_of_one_name_are_told_apart(tmp_path: Path, folders: tuple[str, ...], names: list[str]) -> None:
    """By their folders, or by number where those too are called the same."""
    found = rivals([put(tmp_path / folder, "same", "10", "1e-5") for folder in folders])
    assert [rival.name for rival in found] == names


def test_runs_without_an_eval_in_common_are_refused(runs: tuple[Path, Path], tmp_path: Path) -> None:
    """With what each has."""
    other = put_run(tmp_path / "other", name="other")
    put_report(other, "yarn", EvalReport("ruler", (Measurement("accuracy", 512, 0.5, 0.4, 0.6, 9),)))
    with pytest.raises(CtxkitError, match=r"no eval in common \(slow: passkey; other: ruler\)"):
        rivals((runs[0], other))


def test_the_command_writes_the_page(
    runs: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where it is told to, and says where."""
    target = tmp_path / "page.html"
    assert main(["report", *map(str, runs), "--output", str(target)]) == 0
    assert f"comparison: {target}" in capsys.readouterr().out
    assert target.read_text().startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["a", "absent"], 2, "absent is not a run directory"),
        (["a", "a/../a"], 2, "is named twice"),
        (["a", "--output", "x.html"], 2, "--output is where the comparison of several runs goes"),
        (["a", "b", "--watch"], 2, "--watch needs one RUN"),
        (["a", "b", "--output", "no/such/folder.html"], 6, "cannot write no/such/folder.html"),
    ],
)
def test_what_cannot_be_compared_is_said(
    runs: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    words: str,
) -> None:
    """With the documented exit code."""
    monkeypatch.chdir(runs[0].parent)
    assert main(["report", *arguments]) == code
    assert words in capsys.readouterr().err
