"""Cells of an eval: saved one by one, shared by processes, and none lost to a kill or to a failure."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from ctxkit.errors import CtxkitError, StoppedError
from ctxkit.train import cells as cells_module
from ctxkit.train.cells import SavedCells, ShareDone

pytestmark = pytest.mark.torch


def counted(names: str, seen: list[str]) -> dict[str, Any]:
    """Return a cell for each letter, which says that it was measured."""

    def work(name: str) -> Any:
        def measure() -> dict[str, str]:
            seen.append(name)
            return {"letter": name}

        return measure

    return {name: work(name) for name in names}


def test_killed_eval_goes_on_with_the_next_cell(tmp_path: Path) -> None:
    """What was finished is not measured again, and half a line is no cell."""
    seen: list[str] = []
    work = counted("abcd", seen)

    def stop() -> None:
        raise StoppedError("stop")

    saved = SavedCells(tmp_path / "cells", lambda: False)
    with pytest.raises(StoppedError):
        saved("task", {**work, "c": stop})
    assert seen == ["a", "b"]
    (file,) = (tmp_path / "cells").glob("*")
    file.write_bytes(file.read_bytes() + b'{"cell": "c", "fou')
    assert list(saved("task", work).found.values()) == [{"letter": name} for name in "abcd"]
    assert seen == ["a", "b", "c", "d"]
    assert [json.loads(line)["cell"] for line in file.read_text().splitlines()] == ["a", "b", "c", "d"]


def test_failed_cell_is_named_and_costs_no_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Too little memory at one length is no reason to lose the others."""
    seen: list[str] = []

    def no_memory() -> None:
        raise RuntimeError("out of memory\nsee there")

    done = SavedCells(tmp_path / "cells", lambda: False)("task", {**counted("ab", seen), "long": no_memory})
    assert list(done.found) == ["a", "b"]
    assert done.failed == {"long": "RuntimeError: out of memory"}
    assert "cell long could not be measured: RuntimeError: out of memory" in capsys.readouterr().err


def test_processes_share_the_cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each measures its own; the first one waits for all of them and has them in order."""
    seen: dict[int, list[str]] = {}

    def process(number: int) -> Any:
        seen[number] = []
        monkeypatch.setattr(cells_module.launch, "rank", lambda: number)
        monkeypatch.setattr(cells_module.launch, "world_size", lambda: 3)
        return SavedCells(tmp_path / "cells", lambda: False)("task", counted("abcdefg", seen[number]))

    for number in (1, 2):
        with pytest.raises(ShareDone):
            process(number)
    first = process(0)
    assert seen == {1: ["b", "e"], 2: ["c", "f"], 0: ["a", "d", "g"]}
    assert [item["letter"] for item in first.found.values()] == list("abcdefg")


def test_first_process_waits_for_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What another process writes later is waited for."""
    monkeypatch.setattr(cells_module.launch, "world_size", lambda: 2)

    def other() -> None:
        (tmp_path / "1.jsonl").write_text('{"cell": "b", "found": 7}\n')

    timer = threading.Timer(1.0, other)
    timer.start()
    done = SavedCells(tmp_path, lambda: False)("task", {"a": lambda: 1, "b": lambda: pytest.fail("not its share")})
    assert done.found == {"a": 1, "b": 7}


def test_nothing_is_measured_for_a_report_that_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that comes late has nothing to do."""
    monkeypatch.setattr(cells_module.launch, "rank", lambda: 1)
    monkeypatch.setattr(cells_module.launch, "world_size", lambda: 2)
    seen: list[str] = []
    with pytest.raises(ShareDone):
        SavedCells(tmp_path / "cells", lambda: True)("task", counted("ab", seen))
    assert seen == []


def test_stop_and_interrupt_are_no_failures(tmp_path: Path) -> None:
    """Only what concerns the cell is survived."""

    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        SavedCells(tmp_path / "cells", lambda: False)("task", {"a": interrupted})

    def refused() -> None:
        raise CtxkitError("no key")

    assert SavedCells(tmp_path / "cells", lambda: False)("task", {"a": refused}).failed == {"a": "CtxkitError: no key"}
