"""The search for LongRoPE's factors: from those of PI, NTK and YaRN on, by the perplexity at the target window."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ctxkit_rope.evolution import Evolution, Factors, Sizes, Space
from ctxkit_rope.extension import rotary_dim, unscaled
from ctxkit_rope.longrope import LongropeScaler
from ctxkit_rope.refusals import refusal, scaled_parameters
from ctxkit_rope.yarn import YarnScaler

if TYPE_CHECKING:
    from ctxkit.spec import RopeSearchContext

ROOM = 1.25
"""The largest factor of the search, relative to target / original window (Ding et al. 2024, table 4)."""


@dataclass(frozen=True, kw_only=True)
class Search:
    """What is searched for, and how long."""

    original_max_position_embeddings: int
    """The pre-training window in tokens."""
    target_length: int
    """The window to reach in tokens."""
    attention_factor: float | None
    """Factor on cos and sin; None for the paper's."""
    sizes: Sizes
    step: float
    """Between one factor and the next that may be."""
    seed: int

    def __call__(self, context: RopeSearchContext) -> dict[str, Any]:
        """Return factors, and the perplexity that they and those it began with have at the target window.

        Raises:
            CtxkitError: there is nothing to search, or no factors give a finite perplexity.
        """
        if self.target_length <= self.original_max_position_embeddings:
            raise refusal(
                f"the target window of {self.target_length} tokens is the original one, so all factors are 1",
                "state a longer target_length, or leave out `rope`",
            )
        own = scaled_parameters(context.config)
        starts = self.starts(rotary_dim(context.config, own), own["rope_theta"])
        short = own.get("short_factor")
        evolution = Evolution(
            Space(ROOM * self.target_length / self.original_max_position_embeddings, self.step),
            self.sizes,
            random.Random(f"longrope {self.seed}"),
            lambda factors: context.measure(self._scaler(factors, short), self.target_length),
        )
        best = evolution.best(list(starts.values()))
        found = {name: evolution.score(factors)[0] for name, factors in {**starts, "searched": best}.items()}
        if not math.isfinite(found["searched"]):
            raise refusal(
                f"no factors give a finite perplexity at {self.target_length} tokens",
                "look at the model and its dtype",
            )
        return {
            "target_length": self.target_length,
            "long_factor": list(best),
            "short_factor": list(short or (1.0,) * len(best)),
            # What is not finite is no JSON.
            "perplexity": {name: value if math.isfinite(value) else None for name, value in found.items()},
        }

    def starts(self, dim: int, rope_theta: float) -> dict[str, Factors]:
        """Return the factors that other methods come to, by name, for `dim` rotary dimensions.

        A frequency divided by its factor is that of the method: s everywhere for position interpolation, s ** (2i /
        (dim - 2)) for pair i for NTK, and YaRN's own.
        """
        scale = self.target_length / self.original_max_position_embeddings
        yarn = YarnScaler(
            original_max_position_embeddings=self.original_max_position_embeddings, target_length=self.target_length
        ).frequencies(dim, rope_theta, self.target_length)
        pairs = range(dim // 2)
        kept = zip(unscaled(dim, rope_theta), yarn.inv_freq, strict=True)
        return {
            "pi": (scale,) * len(pairs),
            "ntk": tuple(scale ** (2 * pair / (dim - 2)) if dim > 2 else scale for pair in pairs),
            "yarn": tuple(frequency / slowed for frequency, slowed in kept),
        }

    def _scaler(self, factors: Factors, short: Factors | None) -> LongropeScaler:
        return LongropeScaler(
            original_max_position_embeddings=self.original_max_position_embeddings,
            target_length=self.target_length,
            long_factor=factors,
            short_factor=None if short is None else tuple(short),
            attention_factor=self.attention_factor,
        )
