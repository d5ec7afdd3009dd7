"""A stage's parallel layout ends with it."""

from __future__ import annotations

import os

import pytest
from accelerate import Accelerator, FullyShardedDataParallelPlugin
from accelerate.state import AcceleratorState

from ctxkit.train.layout import own_layout

pytestmark = pytest.mark.torch


def test_what_accelerate_tells_the_process_is_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """An `Accelerator` with FSDP says so in the environment, where the next one would read it."""
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    monkeypatch.delenv("ACCELERATE_USE_FSDP", raising=False)
    with own_layout():
        Accelerator(cpu=True, fsdp_plugin=FullyShardedDataParallelPlugin(fsdp_version=2))
        assert os.environ["ACCELERATE_USE_FSDP"] == "true"
        os.environ["ACCELERATE_MIXED_PRECISION"] = "bf16"
    AcceleratorState._reset_state(reset_partial_state=True)  # what transformers does before each stage
    assert "ACCELERATE_USE_FSDP" not in os.environ
    assert os.environ["ACCELERATE_MIXED_PRECISION"] == "no"


def _failing_stage() -> None:
    with own_layout():
        os.environ["FSDP_VERSION"] = "2"
        raise KeyError("a stage")


def test_it_ends_with_a_failure_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stage that fails leaves nothing behind either."""
    monkeypatch.delenv("FSDP_VERSION", raising=False)
    with pytest.raises(KeyError):
        _failing_stage()
    assert "FSDP_VERSION" not in os.environ
