"""The peak memory of one device and of its host process, by part, from formulas alone (docs/plan-memory.md)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ctxkit_planner.sizes import CUDA, Sizes
from ctxkit_planner.states import States
from ctxkit_planner.step import Step
from ctxkit_planner.tape import PARTS, Tape

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ctxkit_planner.setup import Setup
    from ctxkit_planner.shape import Shape
    from ctxkit_planner.sizes import Backend

    Needs = Callable[[Shape, Setup, int], "Memory"]

DEVICE_PARTS = (*PARTS, "fragmentation")
"""The parts of a device's memory, in the order in which they are shown."""
CONTEXT = 0.6 * 2**30
"""Bytes that CUDA's context, cuBLAS's workspaces and NCCL take beside torch's allocator: an assumption."""
FRAGMENTATION = 0.05
"""Share of the peak that torch's allocator holds and cannot use: an assumption."""
RUNTIME = 4 * 2**30
"""Bytes of host memory of one process: Python, torch, CUDA's libraries, the data loader; an assumption."""


@dataclass(frozen=True)
class Memory:
    """Bytes at the moment of the highest use: of one device by part, and of the host for one process."""

    device: Mapping[str, float]
    host: Mapping[str, float]

    @property
    def peak_bytes(self) -> float:
        """Bytes of the device: the sum of its parts."""
        return sum(self.device.values())

    @property
    def allocated_bytes(self) -> float:
        """Bytes that torch's allocator hands out at the peak (`torch.cuda.max_memory_allocated`)."""
        return self.peak_bytes - self.device["fragmentation"]

    @property
    def host_bytes(self) -> float:
        """Bytes of host memory that one process holds."""
        return sum(self.host.values())


def memory(shape: Shape, setup: Setup, tokens: int, backend: Backend = CUDA) -> Memory:
    """Return the peak of a training step on rows of `tokens` tokens, in bytes by part."""
    sizes, states = Sizes(shape, _as_computed(setup), tokens, backend), States(shape, setup)
    tape = Tape()
    Step(sizes, states).walk(tape)
    device = dict(tape.peak)
    device["fragmentation"] = FRAGMENTATION * sum(device.values()) + CONTEXT
    return Memory(device, _host(sizes, states))


def _as_computed(setup: Setup) -> Setup:
    """Return the setup with the weights that the layers see: DeepSpeed casts them, FSDP gathers them cast."""
    cast = setup.sharding != "none" and setup.weights == "float32" and setup.compute_bytes == 2
    return replace(setup, weights="bfloat16") if cast else setup


def _host(sizes: Sizes, states: States) -> dict[str, float]:
    """Return what one process keeps in the host's memory."""
    setup, host = sizes.setup, {"runtime": float(RUNTIME)}
    if setup.offload_optimizer == "cpu":
        host["optimizer"] = states.optimizer + states.exact_gradients
    if setup.offload_param == "cpu":
        host["weights"] = states.weights + states.adapters
    if setup.activation_offload:
        host["activations"] = sizes.shape.layers * pinned(sizes.wide)
    return host


def pinned(size: float) -> float:
    """Return what a pinned tensor takes: torch's host allocator rounds up to a power of two."""
    return 2.0 ** math.ceil(math.log2(max(size, 1.0)))


def largest_window(
    shape: Shape, setup: Setup, device_bytes: float, host_bytes: float, multiple: int = 1024, needs: Needs = memory
) -> int:
    """Return the longest row, in tokens and a multiple of `multiple`, that fits both memories; 0 where none does.

    `needs` says the peak of rows of a length; another than `memory` may correct it.
    """

    def fits(units: int) -> bool:
        needed = needs(shape, setup, units * multiple)
        return needed.peak_bytes <= device_bytes and needed.host_bytes <= host_bytes

    if not fits(1):
        return 0
    low, high = 1, 2
    while high < LONGEST // multiple and fits(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low * multiple


LONGEST = 1 << 30
"""Tokens beyond which no window is looked for."""
