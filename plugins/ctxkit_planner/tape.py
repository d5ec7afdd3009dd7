"""What is live while a step is walked through: bytes by part, and the moment when they are most."""

from __future__ import annotations

PARTS = (
    "weights",
    "adapters",
    "gradients",
    "optimizer",
    "activations",
    "logits",
    "communication",
)
"""The parts that a step is walked through with; what the allocator adds comes after."""


class Tape:
    """Take bytes and give them back; `peak` is what was live, by part, when the sum was highest."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.live = dict.fromkeys(PARTS, 0.0)
        self.peak = dict(self.live)
        self._total = self._highest = 0.0

    def take(self, size: float, part: str = "activations") -> float:
        """Count `size` bytes as live, and return them, so that the caller can give them back."""
        self.live[part] += size
        self._total += size
        if self._total > self._highest:
            self._highest, self.peak = self._total, dict(self.live)
        return size

    def give(self, *sizes: float, part: str = "activations") -> None:
        """Count bytes as free."""
        for size in sizes:
            self.live[part] -= size
            self._total -= size
