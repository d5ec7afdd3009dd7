"""YaRN: interpolate by parts, and warm the attention."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ctxkit.spec import RopeFrequencies
from ctxkit_rope.extension import Extension, unscaled
from ctxkit_rope.refusals import is_nested, refusal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from transformers import PreTrainedConfig


@dataclass(frozen=True, kw_only=True)
class YarnScaler(Extension):
    """Keep fast dimensions, divide slow ones by the factor, and ramp between them (Peng et al. 2023, arXiv 2309.00071).

    The ramp is linear in the dimension index between whole bounds, as in the authors' reference code
    (github.com/jquesnelle/yarn, `find_correction_range`) and in transformers (`_compute_yarn_parameters`). The paper's
    equation 18 ramps over turns within the window instead; released checkpoints follow the code, and so does this.
    """

    kind = rope_type = "yarn"
    replaces = frozenset({"default", "linear", "yarn"})

    beta_fast: float = 32.0
    """Turns within the original window from which a dimension is kept."""
    beta_slow: float = 1.0
    """Turns within the original window up to which a dimension is fully interpolated."""
    attention_factor: float | None = None
    """Factor on cos and sin; None for 0.1 * ln(factor) + 1."""
    truncate: bool = True
    """Round the ends of the ramp outwards to whole dimensions."""

    def scaling(self, config: PreTrainedConfig, old: Mapping[str, Any]) -> dict[str, Any]:
        """Return the parameters of the type.

        Raises:
            CtxkitError: transformers would ignore `truncate`.
        """
        if not self.truncate and is_nested(config):
            raise refusal(
                f"transformers ignores `truncate: false` in model type '{config.model_type}', whose layer types have "
                "RoPE of their own",
                "leave out `truncate`",
            )
        written: dict[str, Any] = {
            "factor": self.factor,
            "original_max_position_embeddings": self.original_max_position_embeddings,
            "beta_fast": float(self.beta_fast),
            "beta_slow": float(self.beta_slow),
            "truncate": self.truncate,
        }
        if self.attention_factor is not None:
            # left out otherwise: some servers read another name for it, and all agree on the default
            written["attention_factor"] = float(self.attention_factor)
        return written

    def frequencies(self, dim: int, rope_theta: float, length: int) -> RopeFrequencies:
        """Return the blend of kept and divided frequencies and the attention scaling, at every length."""
        low, high = self._ramp(dim, rope_theta)
        inv_freq = []
        for pair, kept in enumerate(unscaled(dim, rope_theta)):
            slowness = min(max((pair - low) / (high - low), 0.0), 1.0)
            inv_freq.append(kept * (1 - slowness) + kept / self.factor * slowness)
        return RopeFrequencies(tuple(inv_freq), self._attention_scaling())

    def _ramp(self, dim: int, rope_theta: float) -> tuple[float, float]:
        """Return the indices of the last dimension pair that is kept and the first that is fully interpolated."""
        low = self._pair_turning(self.beta_fast, dim, rope_theta)
        high = self._pair_turning(self.beta_slow, dim, rope_theta)
        if self.truncate:
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, dim - 1)
        # the reference code's guard against a division by zero, with its own figure
        return low, high + 0.001 if high == low else high

    def _pair_turning(self, turns: float, dim: int, rope_theta: float) -> float:
        """Return the fractional index of the dimension pair that turns so often within the original window."""
        wavelength = self.original_max_position_embeddings / turns
        return dim * math.log(wavelength / (2 * math.pi)) / (2 * math.log(rope_theta))

    def _attention_scaling(self) -> float:
        """Return the stated factor on cos and sin, or the paper's equation 22."""
        if self.attention_factor is not None:
            return self.attention_factor
        return 0.1 * math.log(self.factor) + 1
