"""The report of a run that goes on: written by the run itself, and by who watches it."""

from __future__ import annotations

import json
import re
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import ctxkit_report
from ctxkit import watching
from ctxkit.cli import main
from ctxkit.errors import CtxkitError, ExitCode
from ctxkit.rundir import RunDirectory
from ctxkit.spec.events import RunFinished, RunStarted, StageFinished
from tests.unit.plugins.report_runs import put_run

ROOT = Path(__file__).parents[3]


def test_a_page_of_a_running_run_loads_itself_again(tmp_path: Path) -> None:
    """And that of a finished one does not."""
    put_run(tmp_path, status="running", stages=[])
    ctxkit_report.ctxkit_run_started(RunStarted(tmp_path, {}))
    page = (tmp_path / "report.html").read_text()
    assert "location.reload()" in page
    assert "The run is still going" in page
    put_run(tmp_path)
    ctxkit_report.ctxkit_report(tmp_path)
    assert "location.reload()" not in (tmp_path / "report.html").read_text()


def test_a_stage_shows_before_run_json_names_it(tmp_path: Path) -> None:
    """Its own record is written first."""
    put_run(tmp_path, status="running", stages=[])
    record = {"name": "base", "from": None, "length": 128, "steps": 123456, "tokens": 9, "seconds": 1.0}
    (tmp_path / "stages" / "base").mkdir(parents=True)
    (tmp_path / "stages" / "base" / "stage.json").write_text(json.dumps(record))
    ctxkit_report.ctxkit_stage_finished(StageFinished(tmp_path, "base", tmp_path / "stages/base/model", ()))
    assert "123,456" in (tmp_path / "report.html").read_text()


def test_a_page_that_cannot_be_written_ends_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is said, on stderr."""
    (put_run(tmp_path) / "report.html").mkdir()
    ctxkit_report.ctxkit_run_started(RunStarted(tmp_path, {}))
    ctxkit_report.ctxkit_run_finished(RunFinished(tmp_path, tmp_path / "no model"))
    said = capsys.readouterr().err.splitlines()
    assert re.match(r"note: report.html could not be written: cannot write .*report.html", said[0])
    assert any(line.startswith("note: the model card could not be written") for line in said)


def test_a_run_is_looked_at_again_when_it_has_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not before, and no more once it has ended."""
    put_run(tmp_path, status="running")

    def tick(_seconds: float) -> None:
        ticks.append(1)
        if len(ticks) == 2:
            with (tmp_path / "metrics.jsonl").open("a") as file:
                file.write('{"stage": "yarn", "step": 9, "loss": 1.0}\n')
        if len(ticks) == 4:
            put_run(tmp_path, status="failed")

    ticks: list[int] = []
    monkeypatch.setattr("time.sleep", tick)
    assert list(watching.versions(RunDirectory(tmp_path))) == [True, True, False]
    assert len(ticks) == 4


def test_a_run_that_was_killed_is_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As soon as nobody holds its lock; and again when another attempt at it is killed too."""
    put_run(tmp_path, status="running")
    said: list[int] = []
    held = ExitStack()
    held.enter_context(RunDirectory(tmp_path).locked())

    def tick(_seconds: float) -> None:
        ticks.append(len(said))
        if len(ticks) in (2, 6):
            held.close()
        if len(ticks) == 4:
            held.enter_context(RunDirectory(tmp_path).locked())
        if len(ticks) == 8:
            put_run(tmp_path, status="failed")

    ticks: list[int] = []
    monkeypatch.setattr("ctxkit.watching.time.sleep", tick)
    list(watching.versions(RunDirectory(tmp_path), killed=lambda: said.append(1)))
    assert ticks == [0, 0, 1, 1, 1, 1, 2, 2]


def test_watching_ends_with_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the summary of what it left; Ctrl-C ends it as any command."""
    assert main(["report", str(put_run(tmp_path)), "--watch"]) == 0
    assert "report: " in capsys.readouterr().out


def test_ctrl_c_ends_watching(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With exit code 130, and the page is there."""

    def interrupt(_seconds: float) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", interrupt)
    assert main(["report", str(put_run(tmp_path, status="running")), "--watch"]) == 130
    assert "up to date; Ctrl-C ends this, not the run" in capsys.readouterr().err
    assert (tmp_path / "report.html").exists()


@pytest.mark.parametrize("refused", [False, True])
def test_the_page_of_a_run_that_failed_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], refused: bool
) -> None:
    """It loads itself no more; one that was refused before it began leaves the page of the run that is there."""
    put_run(tmp_path, status="running")
    ctxkit_report.ctxkit_run_started(RunStarted(tmp_path, {}))
    page = tmp_path / "report.html"
    before = page.read_text()

    def fail(*_: object, **__: object) -> None:
        if not refused:
            put_run(tmp_path, status="failed")
        raise CtxkitError("no luck", exit_code=ExitCode.FAILED)

    monkeypatch.setattr("ctxkit.train.run_located", fail)
    monkeypatch.setattr("ctxkit.commands._finished", lambda *_: False)
    monkeypatch.setattr(RunDirectory, "check", lambda *_: None)
    assert main(["run", str(ROOT / "recipes/tiny_yarn.yaml"), "--run-dir", str(tmp_path)]) == 1
    assert "no luck" in capsys.readouterr().err
    assert (page.read_text() == before) is refused
    assert ("location.reload()" in page.read_text()) is refused
