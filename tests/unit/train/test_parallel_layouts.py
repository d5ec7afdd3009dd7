"""What was asked against what runs, and accelerate's object for a recipe's sizes; two processes are in integration."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from accelerate.utils import DistributedType

from ctxkit.errors import CtxkitError, ExitCode
from ctxkit.layouts import Layout
from ctxkit.train.parallel import LayoutGuard, check_world, parallelism

pytestmark = pytest.mark.torch


class DeepSpeedEngine:
    """What DeepSpeed wraps a model in, as far as it is looked at."""

    def __init__(self, stage: int) -> None:
        self._stage = stage

    def zero_optimization_stage(self) -> int:
        """The stage that runs."""
        return self._stage


class FSDPModule:
    """What FSDP2 makes of the class of a model."""


def looked_at(asked: Layout, kind: DistributedType, wrapped: object, *, sp: int = 1, **more: Any) -> None:
    """Let the guard look at a trainer with such a layout."""
    accelerator = SimpleNamespace(num_processes=more.pop("processes", 4), distributed_type=kind)
    trainer = SimpleNamespace(
        accelerator=accelerator, model_wrapped=wrapped, get_sp_size=lambda: sp, get_cp_size=lambda: 1
    )
    nothing: Any = None
    LayoutGuard(cast("Any", trainer), asked, **more).on_train_begin(nothing, nothing, nothing)


@pytest.fixture(autouse=True)
def four(monkeypatch: pytest.MonkeyPatch) -> None:
    """A launcher started four processes."""
    monkeypatch.setenv("WORLD_SIZE", "4")


@pytest.mark.parametrize(
    ("asked", "kind", "wrapped", "said"),
    [
        (Layout(fsdp=True), DistributedType.MULTI_CPU, object(), "asks for the layout FSDP, and MULTI_CPU runs"),
        (Layout(fsdp=True), DistributedType.FSDP, object(), "wrapped by FSDP, and object runs"),
        (Layout(deepspeed=True, zero=3), DistributedType.DEEPSPEED, DeepSpeedEngine(2), "ZeRO stage 3, and 2 runs"),
        (Layout(deepspeed=True, zero=3, sp=2), DistributedType.DEEPSPEED, DeepSpeedEngine(3), "sp_size 2, and 1 runs"),
    ],
    ids=["fallback", "unwrapped", "stage", "rows"],
)
def test_another_layout_is_an_error(asked: Layout, kind: DistributedType, wrapped: object, said: str) -> None:
    """A library that falls back without a word ends the run, which names both."""
    with pytest.raises(CtxkitError, match=said) as caught:
        looked_at(asked, kind, wrapped)
    assert caught.value.exit_code == ExitCode.RECIPE


def test_processes_that_have_not_met_are_an_error() -> None:
    """Each would train a model of its own."""
    with pytest.raises(CtxkitError, match="processes: 4, and 1 runs"):
        looked_at(Layout(), DistributedType.NO, object(), processes=1)
    with pytest.raises(CtxkitError, match="they joined as 1"):
        check_world(cast("Any", SimpleNamespace(world_size=1)))


def test_what_was_asked_for_passes() -> None:
    """No fault where the layout is the one of the recipe."""
    looked_at(Layout(), DistributedType.MULTI_GPU, object())
    looked_at(Layout(fsdp=True), DistributedType.FSDP, FSDPModule())
    looked_at(Layout(), DistributedType.DEEPSPEED, DeepSpeedEngine(3), sp=2, elsewhere=True)  # by accelerate's own file
    looked_at(Layout(deepspeed=True, zero=3, sp=2), DistributedType.DEEPSPEED, DeepSpeedEngine(3), sp=2)


def test_fsdp_shards_over_the_processes_that_are_left() -> None:
    """Four processes, two of which share each row: two shards, unless the recipe says otherwise."""
    assert parallelism({"cp_size": 2}, fsdp=True).dp_shard_size == 2
    assert parallelism({"cp_size": 2, "dp_shard_size": 1}, fsdp=True).dp_shard_size == 1
    assert parallelism({"sp_size": 2}, fsdp=False).dp_shard_size == 1
    made = parallelism({"cp_size": 2, "cp_handler": {"cp_comm_strategy": "alltoall"}}, fsdp=True)
    assert made.cp_handler.cp_comm_strategy == "alltoall"
    with pytest.raises(CtxkitError, match="groups of 3 processes, and 4 run here"):
        parallelism({"sp_size": 3}, fsdp=False)
