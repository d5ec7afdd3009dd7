"""A larger theta: stated, by the NTK formula, or by the same formula at each length."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ctxkit.spec import RopeFrequencies
from ctxkit_rope.extension import Extension, rotary_dim, unscaled
from ctxkit_rope.refusals import refusal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from transformers import PreTrainedConfig


@dataclass(frozen=True, kw_only=True)
class ThetaScaler(Extension):
    """Use another theta (adjusted base frequency), as Code Llama (Rozière et al. 2023) and ProLong (2024) do."""

    kind = "theta"
    rope_type = "default"
    replaces = frozenset({"default"})

    rope_theta: float
    """The new theta."""

    def scaling(self, config: PreTrainedConfig, old: Mapping[str, Any]) -> dict[str, Any]:
        """Return the new theta.

        Raises:
            CtxkitError: it is below the model's own, which would shorten its window.
        """
        if self.rope_theta < old["rope_theta"]:
            raise refusal(
                f"rope_theta {self.rope_theta:g} is below the model's own {old['rope_theta']:g}, "
                "which turns every dimension faster and shortens the window",
                "state a greater rope_theta",
            )
        return {"rope_theta": self.rope_theta}

    def frequencies(self, dim: int, rope_theta: float, length: int) -> RopeFrequencies:
        """Return those of the new theta, at every length."""
        return RopeFrequencies(unscaled(dim, self.rope_theta))


@dataclass(frozen=True, kw_only=True)
class NtkScaler(Extension):
    """Raise theta until the slowest dimension is divided by the factor, and the fastest stays (NTK-aware scaling).

    Source: equation 16 of Peng et al. 2023 (arXiv 2309.00071), first published by bloc97.
    """

    kind = "ntk"
    rope_type = "default"
    replaces = frozenset({"default"})

    def scaling(self, config: PreTrainedConfig, old: Mapping[str, Any]) -> dict[str, Any]:
        """Return the raised theta: transformers has no type for it, and so every server understands it.

        Raises:
            CtxkitError: the model's theta may have been raised before, or too few dimensions are rotated.
        """
        window = config.max_position_embeddings
        if window != self.original_max_position_embeddings:
            original = self.original_max_position_embeddings
            raise refusal(
                f"the model's window is {window} tokens, and the original one {original}: its theta may have been "
                "raised for that already, and ntk would raise it twice",
                f"write into model.config: `max_position_embeddings: {original}`, and `rope_parameters` with the "
                "rope_theta that the model was pre-trained with",
            )
        dim = rotary_dim(config, old)
        if dim <= 2:
            raise refusal(f"{dim} rotary dimensions of a head are too few for ntk", "choose `kind: linear`")
        return {"rope_theta": ntk_theta(dim, old["rope_theta"], self.factor)}

    def frequencies(self, dim: int, rope_theta: float, length: int) -> RopeFrequencies:
        """Return those of the raised theta, at every length."""
        return RopeFrequencies(unscaled(dim, ntk_theta(dim, rope_theta, self.factor)))


@dataclass(frozen=True, kw_only=True)
class DynamicScaler(Extension):
    """Raise theta with the length of each sequence beyond the original window, as transformers computes it.

    At the length l it is raised by factor * l / original - (factor - 1), so that the window itself stays as it was.
    transformers measures that growth from `max_position_embeddings`, which therefore stays the original window.
    """

    kind = rope_type = "dynamic"
    replaces = frozenset({"default", "dynamic"})

    @property
    def written_window(self) -> int:
        """The original window: raised to the target, transformers would scale nothing."""
        return self.original_max_position_embeddings

    def scaling(self, config: PreTrainedConfig, old: Mapping[str, Any]) -> dict[str, Any]:
        """Return the factor, which is all that this type has."""
        if rotary_dim(config, old) <= 2:
            raise refusal("2 rotary dimensions of a head are too few for dynamic", "choose `kind: linear`")
        return {"factor": self.factor}

    def frequencies(self, dim: int, rope_theta: float, length: int) -> RopeFrequencies:
        """Return those of the theta that a sequence of `length` tokens gets."""
        grown = max(length / self.original_max_position_embeddings, 1.0)
        return RopeFrequencies(unscaled(dim, ntk_theta(dim, rope_theta, self.factor * grown - (self.factor - 1))))


def ntk_theta(dim: int, rope_theta: float, scale: float) -> float:
    """Return the theta that divides the slowest of `dim` rotary dimensions by `scale`."""
    return float(rope_theta * scale ** (dim / (dim - 2)))
