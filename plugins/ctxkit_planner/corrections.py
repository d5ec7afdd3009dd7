"""The memory of a stage, corrected by what was measured on such a GPU where that was done (`--calibrate`)."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from ctxkit.errors import CtxkitError, ExitCode
from ctxkit_planner import calibration
from ctxkit_planner.gpus import gpu_found
from ctxkit_planner.memory import memory
from ctxkit_planner.setup import Setup

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ctxkit_planner.calibration import Calibration
    from ctxkit_planner.gpus import Gpu
    from ctxkit_planner.memory import Memory
    from ctxkit_planner.shape import Shape


def needed(gpu: Gpu, shape: Shape, setup: Setup, tokens: int) -> Memory:
    """Return the peak of a step on rows of `tokens` tokens, as measured figures correct it."""
    return calibration.corrected(memory(shape, setup, tokens), correction(gpu, shape, setup))


def correction(gpu: Gpu, shape: Shape, setup: Setup) -> Calibration | None:
    """Return what was measured of such a model, set up so, on such a GPU; None where nothing was."""
    return _kept(gpu.name, shape.model_type, setup.attention, setup.checkpointing)


def measure(gpu: Gpu, config: Mapping[str, Any], setup: Setup, tokens: int) -> None:
    """Train a few steps on the GPU of this machine, and keep what follows for plans on such GPUs.

    Raises:
        CtxkitError: there is no GPU here, or another one than the plan is for.
    """
    import torch

    from ctxkit_planner.measuring import calibrate_here

    if torch.cuda.is_available():
        name = torch.cuda.get_device_name(0)
        here = gpu_found(name, None)
        if here is None or here.name != gpu.name:
            message = f"--calibrate measures the GPU of this machine, which is {name}, and the plan is for {gpu.name}"
            hint = f"type --gpu {here.name}" if here else "it is none of those that are known"
            raise CtxkitError(message, hint, exit_code=ExitCode.RECIPE)
    found, _ = calibrate_here(config, setup, tokens)
    calibration.keep(calibration.key_of(gpu.name, config, setup), found)
    _kept.cache_clear()


@functools.cache
def _kept(gpu: str, model_type: str, attention: Any, checkpointing: Any) -> Calibration | None:
    setup = Setup(attention=attention, checkpointing=checkpointing)
    return calibration.kept(calibration.key_of(gpu, {"model_type": model_type}, setup))
