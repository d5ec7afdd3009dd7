"""LongRoPE: a factor of its own for every dimension, found by a search."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ctxkit.spec import RopeFrequencies
from ctxkit_rope.extension import Extension, rotary_dim, unscaled
from ctxkit_rope.refusals import refusal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from transformers import PreTrainedConfig


@dataclass(frozen=True, kw_only=True)
class LongropeScaler(Extension):
    """Divide each frequency by a factor of its own, beyond the original window by others than within.

    Source: Ding et al. 2024 (arXiv 2402.13753) and their code (github.com/microsoft/LongRoPE, rope/longrope.py).
    """

    kind = rope_type = "longrope"
    replaces = frozenset({"default", "longrope"})

    long_factor: tuple[float, ...]
    """For sequences beyond the original window, one for each pair of rotary dimensions, the fastest first."""
    short_factor: tuple[float, ...] | None = None
    """For sequences within the original window; None for ones, which leave it as it was."""
    attention_factor: float | None = None
    """Factor on cos and sin; None for sqrt(1 + ln(factor) / ln(original window))."""

    def scaling(self, config: PreTrainedConfig, old: Mapping[str, Any]) -> dict[str, Any]:
        """Return the parameters of the type.

        Raises:
            CtxkitError: the lists do not fit the model, or would replace its own in silence.
        """
        pairs = rotary_dim(config, old) // 2
        for name, values in (("long_factor", self.long_factor), ("short_factor", self._short())):
            if len(values) != pairs:
                raise refusal(
                    f"{name} has {len(values)} values, and the model rotates {pairs} pairs of dimensions in each head",
                    f"state {pairs} values, as a search on this very model gives",
                )
        if self.short_factor is None and old.get("short_factor"):
            raise refusal(
                "the model has a short_factor of its own, which ones would silently replace",
                "state short_factor too, that of the model's config or that of the search",
            )
        stated = {} if self.attention_factor is None else {"attention_factor": float(self.attention_factor)}
        return {
            "factor": self.factor,
            "original_max_position_embeddings": self.original_max_position_embeddings,
            "short_factor": list(self._short()),
            "long_factor": list(self.long_factor),
            **stated,
        }

    def frequencies(self, dim: int, rope_theta: float, length: int) -> RopeFrequencies:
        """Return the frequencies by the long or the short factors, whichever a sequence of `length` tokens gets."""
        factors = self.long_factor if length > self.original_max_position_embeddings else self._short()
        divided = zip(unscaled(dim, rope_theta), factors, strict=True)
        return RopeFrequencies(tuple(kept / factor for kept, factor in divided), self._attention_scaling())

    def _short(self) -> tuple[float, ...]:
        return (1.0,) * len(self.long_factor) if self.short_factor is None else self.short_factor

    def _attention_scaling(self) -> float:
        if self.attention_factor is not None:
            return self.attention_factor
        if self.factor == 1:
            return 1.0
        return math.sqrt(1 + math.log(self.factor) / math.log(self.original_max_position_embeddings))
