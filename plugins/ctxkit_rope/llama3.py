"""Llama 3.1's own scaling: by wavelength, with a ramp between."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ctxkit.spec import RopeFrequencies
from ctxkit_rope.extension import Extension, unscaled
from ctxkit_rope.refusals import refusal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from transformers import PreTrainedConfig


@dataclass(frozen=True, kw_only=True)
class Llama3Scaler(Extension):
    """Keep what turns often within the original window, divide what turns seldom, and ramp over the turns between.

    Source: `apply_scaling` in Meta's code (github.com/meta-llama/llama-models, models/llama3/model.py).
    """

    kind = rope_type = "llama3"
    replaces = frozenset({"default", "llama3"})

    low_freq_factor: float = 1.0
    """Turns within the original window up to which a dimension is divided by the factor."""
    high_freq_factor: float = 4.0
    """Turns within the original window from which a dimension is kept."""

    def scaling(self, config: PreTrainedConfig, old: Mapping[str, Any]) -> dict[str, Any]:
        """Return the parameters of the type.

        Raises:
            CtxkitError: the model has this scaling already, with a larger factor or another ramp.
        """
        ramp = {"low_freq_factor": self.low_freq_factor, "high_freq_factor": self.high_freq_factor}
        if old.get("rope_type") == "llama3":
            self._check_grows(old, ramp)
        original = self.original_max_position_embeddings
        return {"factor": self.factor, **ramp, "original_max_position_embeddings": original}

    def frequencies(self, dim: int, rope_theta: float, length: int) -> RopeFrequencies:
        """Return the blend of kept and divided frequencies, at every length."""
        return RopeFrequencies(tuple(self._scaled(kept) for kept in unscaled(dim, rope_theta)))

    def _scaled(self, frequency: float) -> float:
        turns = self.original_max_position_embeddings * frequency / (2 * math.pi)
        kept = (turns - self.low_freq_factor) / (self.high_freq_factor - self.low_freq_factor)
        kept = min(max(kept, 0.0), 1.0)
        return frequency * (kept + (1 - kept) / self.factor)

    def _check_grows(self, old: Mapping[str, Any], ramp: Mapping[str, float]) -> None:
        """Refuse what would take back or bend the scaling that a model was trained with."""
        if old["factor"] > self.factor:
            least = math.ceil(old["factor"] * self.original_max_position_embeddings)
            raise refusal(
                f"the model is already scaled by llama3 with factor {old['factor']:g}, and a target of "
                f"{self.target_length} tokens is a factor of {self.factor:g} only",
                f"state a target_length of at least {least}, or leave out `rope`",
            )
        for name, value in ramp.items():
            if old[name] != value:
                raise refusal(
                    f"the model is already scaled by llama3 with {name} {old[name]:g}, not {value:g}",
                    f"write `{name}: {old[name]:g}`",
                )
