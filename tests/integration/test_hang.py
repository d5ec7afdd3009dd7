"""Two processes of which one stops, dies, or fails: the other says which, ends, and what was saved goes on."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from ctxkit.errors import CtxkitError, ExitCode
from ctxkit.rundir import RunDirectory, read_json
from ctxkit.train import checkpoints
from ctxkit.train.pulse import FOLDER, Pulse, records
from ctxkit.train.watchdog import Watchdog, lost_said
from tests.integration.forking import PATIENCE_SECONDS, Server, server
from tests.integration.micro import RECIPE

pytestmark = [pytest.mark.torch, pytest.mark.slow]

ONE = RECIPE[: RECIPE.index("evals:")] + RECIPE[RECIPE.index("stages:") : RECIPE.index("  - name: control")]
LONG = ONE.replace("max_steps: 8", "max_steps: 100000").replace("save_steps: 2", "save_steps: 20")
LONG = LONG.replace("logging_steps: 1", "logging_steps: 20")


@pytest.fixture(scope="module")
def forks() -> Iterator[Server]:
    """A server for the tests of this file."""
    with server() as made:
        yield made


@pytest.fixture
def long(tmp_path: Path) -> Path:
    """A recipe that trains for minutes."""
    (tmp_path / "long.yaml").write_text(LONG, encoding="utf-8")
    return tmp_path / "long.yaml"


@dataclass
class Ended(Exception):  # noqa: N818 - it stands for the end of a process
    """What a watchdog ends its process with."""

    said: list[str]


@pytest.fixture
def watchdog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Watchdog:
    """That of the first of three processes, in training, which has done nothing new for longer than it may."""
    monkeypatch.setenv("WORLD_SIZE", "3")

    def end(_: Watchdog, said: list[str]) -> None:
        raise Ended(said)

    monkeypatch.setattr(Watchdog, "_end", end)
    pulse = Pulse(tmp_path / FOLDER, 0, stage="base", limit=0.2)
    pulse.begin(0, 8)
    pulse.step = pulse.ended = 3
    pulse.moved -= 10
    return Watchdog(pulse, RunDirectory(tmp_path))


def other(watchdog: Watchdog, rank: int, **more: object) -> Pulse:
    """Write what another process would."""
    pulse = replace(watchdog.pulse, rank=rank)
    pulse.write(**more)
    return pulse


def test_the_one_that_is_behind_is_named(watchdog: Watchdog) -> None:
    """All give signs of life: the one that went on to something new less often hangs."""
    watchdog.pulse.moves += 1
    for rank in (1, 2):
        other(watchdog, rank, moves=watchdog.pulse.moves - (rank == 2), phase="forward")
    with pytest.raises(Ended) as caught:
        watchdog()
    assert [said.partition(" (")[0] for said in caught.value.said] == ["process 2"]
    assert "has done nothing new for 10 s in stage base, step 4 of 8" in caught.value.said[0]


def test_a_slow_first_step_is_no_hang(watchdog: Watchdog) -> None:
    """While the first step of an attempt goes on, others may compile or read for as long as they give signs of life."""
    watchdog.pulse.ended = 0
    first = other(watchdog, 1)
    other(watchdog, 2, moves=0)
    watchdog()
    time.sleep(0.15)  # longer than half of the limit: whoever writes nothing now is gone
    first.write()
    with pytest.raises(Ended) as caught:
        watchdog()
    assert len(caught.value.said) == 1
    assert caught.value.said[0].startswith("process 2")
    assert "no sign of life" in caught.value.said[0]


@pytest.mark.parametrize("paused", [0.0, 3600.0])
def test_time_while_all_stood_still_is_no_hang(
    paused: float, watchdog: Watchdog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped as a whole, by Ctrl-Z or with its machine, a run is not ended when it goes on; what hung before still is.

    Nor does it matter what the clock on the wall says.
    """
    now = time.monotonic()
    watchdog.pulse.limit, watchdog.pulse.moved = 40.0, now - 15
    monkeypatch.setattr("time.time", lambda: 0.0)
    for rank in (1, 2):
        other(watchdog, rank, moves=watchdog.pulse.moves - (rank == 2))
    for later in (0, 5, 10, 15, 20):
        monkeypatch.setattr("time.monotonic", lambda later=later: now + later + paused * (later > 5))
        watchdog()
    other(watchdog, 1, time=1.0)
    other(watchdog, 2, time=1.0, moves=0)
    monkeypatch.setattr("time.monotonic", lambda: now + paused + 25.5)
    with pytest.raises(Ended, match="process 2"):
        watchdog()


@pytest.mark.parametrize("changed", [{"training": False}, {"limit": None}, {"limit": 60.0}])
def test_who_works_is_left_alone(changed: dict[str, Any], watchdog: Watchdog) -> None:
    """Outside of training, without a limit, or before it is over, nobody is judged."""
    other(watchdog, 1, moves=0)
    watchdog.pulse = replace(watchdog.pulse, **changed)
    watchdog()


def test_a_process_that_failed_says_why(watchdog: Watchdog) -> None:
    """Where a collective fails because another process ended with an error, that error and its exit code are said."""
    other(watchdog, 1)
    other(watchdog, 2, error="out of memory: stage base", exit_code=7)
    said = r"process 2 \(.*\) ended: out of memory: stage base"
    with pytest.raises(CtxkitError, match=said) as caught, lost_said(watchdog):
        raise RuntimeError("[../third_party/gloo/pair.cc:534] Connection closed by peer [127.0.0.1]:40123")
    assert caught.value.exit_code == ExitCode.MEMORY
    with pytest.raises(RuntimeError, match="shape"), lost_said(watchdog):
        raise RuntimeError("shape '[2]' is invalid for input of size 3")


@contextmanager
def two(forks: Server, recipe: Path, directory: Path, *sets: str) -> Iterator[list[int]]:
    """Start two processes; within, a first checkpoint is whole and both train. Both are ended behind it, however."""
    pids = forks.start(recipe, directory, sets, world=2)
    try:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not _saved(directory):
            assert time.monotonic() < deadline, "nothing was saved"
            time.sleep(0.02)
        yield pids
    except BaseException:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        forks.ended()
        raise


def _saved(directory: Path) -> bool:
    with suppress(FileNotFoundError):  # the oldest checkpoints go while we look
        sealed = list(directory.glob("stages/base/checkpoints/checkpoint-*/ctxkit.json"))
        return bool(sealed) and [record["training"] for record in records(directory / FOLDER)] == [True, True]
    return False


def test_a_stopped_process_is_named(forks: Server, long: Path, tmp_path: Path) -> None:
    """Of two processes one is stopped: the other names it, its host and what it did, and ends with exit code 8."""
    status = tmp_path / "run/run.json"
    with two(forks, long, tmp_path / "run", "launch.hang_timeout=4") as pids:
        os.kill(pids[1], signal.SIGSTOP)
        began = time.monotonic()
        while read_json(status).get("exit_code") is None and time.monotonic() < began + PATIENCE_SECONDS:
            time.sleep(0.05)
        took = time.monotonic() - began
        os.kill(pids[1], signal.SIGKILL)
        assert forks.ended() == [ExitCode.HUNG, -signal.SIGKILL]
    assert 3 < took < PATIENCE_SECONDS
    said = read_json(status)["error"]
    assert f"process 1 ({socket.gethostname()}, pid {pids[1]}) has given no sign of life for" in said
    assert "it was seen last in stage base, step" in said
    assert "training hangs in stage base, step" in said
    assert "fit.py" in (tmp_path / "run/hang/rank-0.txt").read_text()
    assert checkpoints.newest(tmp_path / "run/stages/base/checkpoints")[0] is not None


def test_a_dead_process_is_named(forks: Server, long: Path, tmp_path: Path) -> None:
    """One of two is killed: the other does not wait for the timeout, names it, and ends with exit code 8."""
    with two(forks, long, tmp_path / "run") as pids:
        os.kill(pids[1], signal.SIGKILL)
        assert forks.ended() == [ExitCode.HUNG, -signal.SIGKILL]
    said = read_json(tmp_path / "run/run.json")
    assert said["exit_code"] == ExitCode.HUNG
    assert f"pid {pids[1]}) has given no sign of life" in said["error"]


def test_a_signal_to_one_process_saves_the_same_step_in_both(forks: Server, long: Path, tmp_path: Path) -> None:
    """A scheduler may tell one process alone: all of them save the step, and end with its exit code."""
    with two(forks, long, tmp_path / "run") as pids:
        os.kill(pids[1], signal.SIGTERM)
        assert forks.ended() == [ExitCode.PREEMPTED, ExitCode.PREEMPTED]
    newest, set_aside = checkpoints.newest(tmp_path / "run/stages/base/checkpoints")
    assert newest is not None
    assert not set_aside
    step = json.loads((newest / "trainer_state.json").read_text())["global_step"]
    assert newest.name == f"checkpoint-{step}"
    assert {file.name for file in newest.glob("rng_state_*.pth")} == {"rng_state_0.pth", "rng_state_1.pth"}
