"""A signal at any moment of a run: the documented exit code, and a run that goes on as if none had come."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from trl import SFTTrainer

from ctxkit.errors import ExitCode, StoppedError
from ctxkit.rundir import read_json
from ctxkit.train import checkpoints, run, signals, stage
from tests.integration.micro import RECIPE, losses, weights

pytestmark = [pytest.mark.torch, pytest.mark.slow]

ONE = RECIPE[: RECIPE.index("evals:")] + (
    "evals:\n  - {kind: perplexity, source: {kind: repeats, documents: 40, length: 200}, lengths: [16], windows: 4}\n"
    + RECIPE[RECIPE.index("stages:") : RECIPE.index("  - name: control")]
)
MOMENTS: dict[str, tuple[Any, str, int]] = {
    "prepare": (stage, "prepare_stage", 1),
    "step": (SFTTrainer, "training_step", 3),
    "save": (torch, "save", 2),
    "last save": (checkpoints, "seal", 4),
    "eval": (stage, "evaluate", 1),
}
"""What is called at each moment, and which call of it the signal comes before."""
CODES = {
    signal.SIGTERM: ("preempted", ExitCode.PREEMPTED),
    signal.SIGUSR1: ("preempted", ExitCode.PREEMPTED),
    signal.SIGINT: ("interrupted", ExitCode.INTERRUPTED),
}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a run that nothing happened to."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    (folder / "one.yaml").write_text(ONE, encoding="utf-8")
    return run(folder / "one.yaml", folder / "run").path


def signalled(call: Callable[..., Any], number: int, sent: tuple[signal.Signals, ...]) -> Callable[..., Any]:
    """Return a function that sends us signals before one of its calls."""
    left = [number]

    def called(*arguments: Any, **named: Any) -> Any:
        left[0] -= 1
        for each in sent if left[0] == 0 else ():
            signal.raise_signal(each)
        return call(*arguments, **named)

    return called


@pytest.mark.parametrize(
    ("moment", "sent"),
    [
        *((moment, (signal.SIGTERM,)) for moment in MOMENTS),
        ("step", (signal.SIGTERM, signal.SIGTERM)),
        ("step", (signal.SIGUSR1, signal.SIGTERM)),
        ("step", (signal.SIGINT,)),
    ],
)
def test_told_to_stop(
    moment: str,
    sent: tuple[signal.Signals, ...],
    tmp_path: Path,
    uninterrupted: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first signal says the exit code, in training after a checkpoint; typed again, the run ends the same."""
    (tmp_path / "one.yaml").write_text(ONE, encoding="utf-8")
    owner, name, number = MOMENTS[moment]
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, signalled(getattr(owner, name), number, sent))
        with pytest.raises(StoppedError) as caught:
            run(tmp_path / "one.yaml", tmp_path / "run")
    status, code = CODES[sent[0]]
    assert caught.value.exit_code == code
    said = read_json(tmp_path / "run/run.json")
    assert (said["status"], said["exit_code"]) == (status, code)
    rejected = list((tmp_path / "run").glob("stages/*/checkpoints/rejected-*"))
    saved = checkpoints.newest(tmp_path / "run/stages/base/checkpoints")
    assert (saved[0] is not None) == (moment != "prepare")
    assert not saved[1] + rejected
    directory = run(tmp_path / "one.yaml", tmp_path / "run").path
    assert losses(directory) == losses(uninterrupted)
    ours, theirs = (weights(folder / "stages/base/model") for folder in (directory, uninterrupted))
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    for report in (uninterrupted / "evals/base").glob("*.json"):
        assert (directory / "evals/base" / report.name).read_text() == report.read_text()


def test_a_second_interrupt_ends_at_once() -> None:
    """Ctrl-C typed twice in training is what it would be without ctxkit: death by SIGINT."""
    # By its path, since its package loads the training libraries, of which it needs none.
    code = (
        "import runpy, signal, sys\n"
        "stop = runpy.run_path(sys.argv[1])['StopSignal']()\n"
        "with stop.installed(), stop.deferred():\n"
        "    signal.raise_signal(signal.SIGINT)\n"
        "    print('goes on', flush=True)\n"
        "    signal.raise_signal(signal.SIGINT)\n"
        "    print('still here')\n"
    )
    line = [sys.executable, "-c", code, signals.__file__]
    ended = subprocess.run(line, capture_output=True, text=True, check=False, timeout=100)
    assert (ended.returncode, ended.stdout) == (-signal.SIGINT, "goes on\n")
