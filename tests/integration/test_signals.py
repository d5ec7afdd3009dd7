"""A signal at any moment of a run: the documented exit code, and a run that goes on as if none had come."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import TrainerControl, TrainerState, TrainingArguments
from trl import SFTTrainer

from ctxkit.errors import ExitCode, StoppedError
from ctxkit.rundir import read_json
from ctxkit.train import checkpoints, progress, run, signals, stage, trainer
from ctxkit.train.callbacks import Progress, StopAtStepEnd
from ctxkit.train.pulse import Pulse
from tests.integration.micro import RECIPE, losses, weights

pytestmark = [pytest.mark.torch, pytest.mark.slow]

ONE = RECIPE[: RECIPE.index("evals:")] + (
    "evals:\n  - {kind: perplexity, source: {kind: repeats, documents: 40, length: 200}, lengths: [16], windows: 4}\n"
    + RECIPE[RECIPE.index("stages:") : RECIPE.index("  - name: control")]
)
MOMENTS: dict[str, tuple[Any, str, int]] = {
    "prepare": (stage, "prepare_stage", 1),
    "load": (trainer, "make_model", 1),
    "step": (SFTTrainer, "training_step", 3),
    "save": (torch, "save", 2),
    "last save": (checkpoints, "seal", 4),
    "eval": (stage, "evaluate", 1),
    "report": (stage, "StageFinished", 1),
}
"""What is called at each moment, and which call of it the signal comes before."""
CODES = {
    signal.SIGTERM: ("preempted", ExitCode.PREEMPTED),
    signal.SIGUSR1: ("preempted", ExitCode.PREEMPTED),
    signal.SIGHUP: ("preempted", ExitCode.PREEMPTED),
    signal.SIGINT: ("interrupted", ExitCode.INTERRUPTED),
}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a run that nothing happened to."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    (folder / "one.yaml").write_text(ONE, encoding="utf-8")
    return run(folder / "one.yaml", folder / "run").path


@pytest.fixture(autouse=True)
def heard() -> Iterator[None]:
    """SIGHUP is not ignored, as it would be in tests that were started with `nohup`."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


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
        ("step", (signal.SIGHUP, signal.SIGHUP)),
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
    assert (saved[0] is not None) == (moment not in ("prepare", "load"))
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


def test_a_signal_that_comes_while_the_processes_agree_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """They wait for one another most of the time: the step that is agreed on ends as agreed, and the next one stops."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    stop, args, sent = signals.StopSignal(), TrainingArguments(), [signal.SIGTERM]
    reduce = lambda *_, **__: signal.raise_signal(sent.pop()) if sent else None  # noqa: E731
    monkeypatch.setattr(torch.distributed, "all_reduce", reduce)
    callback, asked = StopAtStepEnd(stop), []
    with stop.installed(), stop.deferred():
        for _ in range(2):
            control = TrainerControl()
            callback.on_step_end(args, TrainerState(), control)
            asked.append(control.should_save and control.should_training_stop)
    assert asked == [False, True]
    assert stop.received == signal.SIGTERM


def test_it_is_said_what_the_end_waits_for(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """When the signal comes, in training: how long steps and saves took, so that the time left can be judged."""
    stop = signals.StopSignal(Pulse(tmp_path, 0, longest_step=12.34, longest_save=56.78))
    with stop.installed():
        with stop.deferred():
            signal.raise_signal(signal.SIGTERM)
            assert stop.received == signal.SIGTERM
        said = capfd.readouterr().err
    assert said == "SIGTERM: training ends with this step, and saves; steps took up to 12.3 s, saving 56.8 s\n"


def test_what_nohup_ignores_stays_ignored() -> None:
    """SIGHUP to a run that was started with `nohup` does nothing."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        stop = signals.StopSignal()
        with stop.installed():
            signal.raise_signal(signal.SIGHUP)
        assert not stop.received
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_closed_terminal_costs_no_save(monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind SIGHUP nothing can be written to the terminal: what is said there is lost, and nothing else."""
    master, slave = os.openpty()
    with os.fdopen(slave, "w", buffering=1) as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        monkeypatch.delenv("CI", raising=False)
        bar = progress.Bar("stage", 3)
        bar.advance("loss 1")
        os.close(master)
        with pytest.raises(OSError, match="Input/output error"):
            terminal.write("x\n")
        progress.say("lost")
        bar.advance("loss 2")
        bar.__exit__()
        os.dup2(os.open(os.devnull, os.O_WRONLY), slave)  # for what is still in the buffer


def test_progress_has_tokens_and_the_time_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Lines say the tokens of a second over the newest steps, and how long the rest takes at the pace so far."""
    clock = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    monkeypatch.setenv("CI", "1")
    shown = Progress("stage 1/1 base")
    state, control, args = TrainerState(max_steps=100), TrainerControl(), TrainingArguments()
    shown.on_train_begin(args, state, control)
    shown.on_log(args, state, control, {"loss": 2.0})
    for step in range(1, 3):
        clock[0], state.num_input_tokens_seen = 30.0 * step, 3000 * step
        shown.on_step_end(args, state, control)
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1] == "stage 1/1 base: 2/100 loss 2.000, 100 tokens/s, 49 min left"
