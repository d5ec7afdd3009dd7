"""Position interpolation: every frequency divided by the factor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ctxkit.spec import RopeFrequencies
from ctxkit_rope.extension import extend

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


@dataclass(frozen=True, kw_only=True)
class LinearScaler:
    """Divide every frequency by the factor, as in equation 4 of Chen et al. 2023 (arXiv 2306.15595)."""

    original_max_position_embeddings: int
    """The pre-training window in tokens."""
    target_length: int
    """The window to reach in tokens."""

    @property
    def factor(self) -> float:
        """The target window divided by the original one, whatever the config at hand was extended to."""
        return self.target_length / self.original_max_position_embeddings

    def __call__(self, config: PreTrainedConfig) -> None:
        """Write the scaling into a config whose weights are not loaded yet.

        Raises:
            CtxkitError: the architecture cannot take this change.
        """
        extend(config, self.target_length, {"rope_type": "linear", "factor": self.factor})

    def frequencies(self, dim: int, rope_theta: float) -> RopeFrequencies:
        """Return theta ** (-2i / dim) / factor for each pair i of `dim` rotary dimensions."""
        return RopeFrequencies(tuple(rope_theta ** (-i / dim) / self.factor for i in range(0, dim, 2)))
