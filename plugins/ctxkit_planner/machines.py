"""The machines of a plan."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ctxkit_planner.gpus import Gpu
    from ctxkit_planner.memory import Memory

MACHINE = 8
"""GPUs of one machine."""
DRIVER_BYTES = 1 << 29
"""Of a GPU's memory, what the driver keeps for itself."""


@dataclass(frozen=True)
class Machines:
    """The GPUs of a plan."""

    gpu: Gpu
    gpus: int
    host_bytes: float = math.inf
    """Memory of one machine; infinite where nobody said."""
    mfu: float | None = None

    @property
    def usable_bytes(self) -> float:
        """What a process may take of one GPU."""
        return self.gpu.memory_bytes - DRIVER_BYTES

    @property
    def count(self) -> int:
        """Machines."""
        return -(-self.gpus // MACHINE)

    @property
    def beside(self) -> int:
        """Processes that share the memory of one machine."""
        return min(self.gpus, MACHINE)

    def hold(self, needed: Memory) -> bool:
        """Return whether both memories suffice."""
        return needed.peak_bytes <= self.usable_bytes and needed.host_bytes * self.beside <= self.host_bytes
