"""Position interpolation: every frequency divided by the factor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ctxkit.spec import RopeFrequencies
from ctxkit_rope.extension import Extension, unscaled

if TYPE_CHECKING:
    from collections.abc import Mapping

    from transformers import PreTrainedConfig


@dataclass(frozen=True, kw_only=True)
class LinearScaler(Extension):
    """Divide every frequency by the factor, as in equation 4 of Chen et al. 2023 (arXiv 2306.15595)."""

    kind = rope_type = "linear"
    replaces = frozenset({"default", "linear", "yarn"})

    def scaling(self, config: PreTrainedConfig, old: Mapping[str, Any]) -> dict[str, Any]:
        """Return the factor, which is all that this type has."""
        return {"factor": self.factor}

    def frequencies(self, dim: int, rope_theta: float, length: int) -> RopeFrequencies:
        """Return theta ** (-2i / dim) / factor for each pair i, at every length."""
        return RopeFrequencies(tuple(kept / self.factor for kept in unscaled(dim, rope_theta)))
