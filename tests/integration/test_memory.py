"""A lack of memory at any moment: exit code 7, where it came, how much there was, and nothing saved is lost."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel
from trl import SFTTrainer

from ctxkit.errors import CtxkitError, ExitCode, OutOfMemoryError
from ctxkit.rundir import read_json, write_json
from ctxkit.train import checkpoints, run, trainer
from ctxkit.train.memory_errors import out_of_memory
from ctxkit.train.pulse import FOLDER, Pulse, machine
from tests.integration.micro import RECIPE

pytestmark = [pytest.mark.torch, pytest.mark.slow]

ONE = RECIPE[: RECIPE.index("evals:")] + RECIPE[RECIPE.index("stages:") : RECIPE.index("  - name: control")]
ABSURD = 1 << 50


@pytest.fixture
def one(tmp_path: Path) -> Path:
    """A recipe of one stage without evals."""
    (tmp_path / "one.yaml").write_text(ONE, encoding="utf-8")
    return tmp_path / "one.yaml"


def failing(call: Callable[..., Any], number: int, fail: Callable[[], Any]) -> Callable[..., Any]:
    """Return a function that fails in one of its calls."""
    left = [number]

    def called(*arguments: Any, **named: Any) -> Any:
        left[0] -= 1
        if left[0] == 0:
            fail()
        return call(*arguments, **named)

    return called


def allocate() -> None:
    """Ask torch's CPU allocator for a petabyte, which it has a plain RuntimeError for."""
    torch.empty(ABSURD)


def device() -> None:
    """Raise what the allocator of a GPU raises."""
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79 GiB")


def cublas() -> None:
    """Raise what cuBLAS has no type for."""
    raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")


def python() -> None:
    """Raise Python's own, which says nothing."""
    bytearray(1 << 60)


MOMENTS: dict[str, tuple[Any, str, int, Callable[[], Any], str]] = {
    "loading": (trainer, "make_model", 1, allocate, r"stage base \(loading the model\)"),
    "step": (SFTTrainer, "compute_loss", 6, device, r"stage base, step 6 of 8 \(forward\), 4 x 32 tokens"),
    "library": (SFTTrainer, "compute_loss", 6, cublas, r"stage base, step 6 of 8 \(forward\), 4 x 32 tokens"),
    "saving": (torch, "save", 5, python, r"stage base, step 4 of 8 \(saving a checkpoint\)"),
    "last": (PreTrainedModel, "save_pretrained", 5, allocate, r"stage base \(saving the model\)"),
}
"""What is called at each moment, in which call of it memory is short, and what is said of the place."""


@pytest.mark.parametrize("moment", list(MOMENTS))
def test_short_memory_names_the_place_and_loses_nothing(
    moment: str, one: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 7 with the place; the newest checkpoint is whole, and the same command goes on from it."""
    owner, name, number, fail, said = MOMENTS[moment]
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, failing(getattr(owner, name), number, fail))
        with pytest.raises(OutOfMemoryError, match=said) as caught:
            run(one, tmp_path / "run")
    assert caught.value.exit_code == ExitCode.MEMORY
    assert "memory of the machine" in caught.value.message
    status = read_json(tmp_path / "run/run.json")
    assert (status["exit_code"], status["error"]) == (ExitCode.MEMORY, str(caught.value))
    newest, set_aside = checkpoints.newest(tmp_path / "run/stages/base/checkpoints")
    saved = {"loading": None, "saving": "checkpoint-2", "last": "checkpoint-8"}.get(moment, "checkpoint-4")
    assert (newest.name if newest else None) == saved
    assert len(set_aside) == (moment == "saving")
    assert (saved or "nothing that was saved is lost") in caught.value.hint
    assert not (tmp_path / "run" / FOLDER).exists()


def test_the_plans_advice_is_given(one: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the planner says of a run that does not fit is part of the message."""
    monkeypatch.setattr("ctxkit.train.memory_errors.advice", lambda *_, **__: "use ZeRO-3")
    monkeypatch.setattr(SFTTrainer, "compute_loss", failing(SFTTrainer.compute_loss, 1, allocate))
    with pytest.raises(OutOfMemoryError) as caught:
        run(one, tmp_path / "run")
    assert caught.value.hint.endswith("use ZeRO-3")


@pytest.mark.parametrize(
    ("error", "short"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"), True),
        (RuntimeError("DataLoader worker (pid 1) is killed by signal: Killed."), True),
        (RuntimeError("No executable batch size found, reached zero."), True),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), True),
        (MemoryError(), True),
        (RuntimeError("CUDA error: device-side assert triggered"), False),
        (OSError(errno.ENOSPC, "No space left on device"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_what_means_short_memory(error: Exception, short: bool) -> None:
    """The errors of torch, its libraries, Python and the system are known; others are not taken for one."""
    assert out_of_memory(error) == short
    wrapped = CtxkitError("the model cannot be loaded")
    wrapped.__cause__ = error
    assert out_of_memory(wrapped) == short


def test_a_kill_for_want_of_memory_is_said_afterwards(
    one: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An attempt that ended without a word: where it was seen last, and that the kernel counts one more such kill."""
    directory = run(one, tmp_path / "run", ["stages.base.train.max_steps=8"])
    killed = (machine()["oom_kills"] or 0) - 1
    capsys.readouterr()
    pulse = Pulse(directory.path / FOLDER, 0)
    pulse.at("forward", "base")
    pulse.begin(2, 8)
    pulse.write(oom_kills=killed)
    directory.update(status="running")
    run(one, tmp_path / "run")
    said = capsys.readouterr().err
    assert "was killed" in said
    assert "process 0 (pid" in said
    assert "was seen last in stage base, step 3 of 8" in said
    assert ("ended 1 process here for want of memory" in said) == (machine()["oom_kills"] is not None)
    assert not (directory.path / FOLDER).exists()
    write_json(directory.path / "run.json", {**directory.status(), "status": "done"})
    run(one, tmp_path / "run")
    assert "was killed" not in capsys.readouterr().err


def test_a_search_that_runs_out_of_memory_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 7 where a window is too long to be measured; another failure is not taken for it."""
    from ctxkit.train import measuring

    measure = object.__new__(measuring.Measure)
    measure.model, measure.documents = None, ()  # type: ignore[assignment]
    monkeypatch.setattr(measuring, "perplexity", failing(lambda *_: 0.0, 1, allocate))
    with pytest.raises(OutOfMemoryError, match="cannot be measured at 99 tokens"):
        measure._measured(99)
    monkeypatch.setattr(measuring, "perplexity", failing(lambda *_: 0.0, 1, lambda: {}["x"]))
    with pytest.raises(KeyError):
        measure._measured(99)
