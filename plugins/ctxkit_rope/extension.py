"""What every scaler has in common: the two windows, and the change that it makes in a config."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ctxkit_rope.refusals import (
    FULL,
    check_architecture,
    check_replaceable,
    check_sliding_window,
    is_nested,
    scaled_parameters,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from transformers import PreTrainedConfig

    from ctxkit.spec import RopeFrequencies


@dataclass(frozen=True, kw_only=True)
class Extension(ABC):
    """A scaler towards a longer window."""

    kind: ClassVar[str]
    """How a recipe names it."""
    rope_type: ClassVar[str]
    """How transformers names what it writes."""
    replaces: ClassVar[frozenset[str]]
    """Types that it may overwrite, since the original window and theta give back all that is lost."""

    original_max_position_embeddings: int
    """The pre-training window in tokens."""
    target_length: int
    """The window to reach in tokens."""

    @property
    def factor(self) -> float:
        """The target window divided by the original one, whatever the config at hand was extended to."""
        return self.target_length / self.original_max_position_embeddings

    @property
    def written_window(self) -> int:
        """What becomes `max_position_embeddings`, in tokens."""
        return self.target_length

    def __call__(self, config: PreTrainedConfig) -> None:
        """Write complete `rope_parameters` and the window into a config whose weights are not loaded yet.

        Raises:
            CtxkitError: the config cannot take the change; it is then left as it was.
        """
        old = scaled_parameters(config)
        check_architecture(config, self.kind, self.rope_type)
        check_replaceable(old, self.kind, self.replaces)
        check_sliding_window(config, self.target_length)
        kept = {key: old[key] for key in ("rope_theta", "partial_rotary_factor") if key in old}
        scaling = {**kept, "rope_type": self.rope_type, **self.scaling(config, old)}
        config.rope_parameters = {**config.rope_parameters, FULL: scaling} if is_nested(config) else scaling
        original = scaling.get("original_max_position_embeddings")
        if original is not None and hasattr(config, "original_max_position_embeddings"):
            # transformers prefers this older, top-level field to the one inside rope_parameters
            config.original_max_position_embeddings = original
        if getattr(config, "head_dim", 0) is None:
            # transformers 5.23 reads it without a default for most types, and Mixtral's config leaves it unset
            config.head_dim = config.hidden_size // config.num_attention_heads
        config.max_position_embeddings = self.written_window

    @abstractmethod
    def scaling(self, config: PreTrainedConfig, old: Mapping[str, Any]) -> dict[str, Any]:
        """Return the parameters of the rope_type for a config whose parameters are `old`.

        Raises:
            CtxkitError: this kind cannot scale this model.
        """

    @abstractmethod
    def frequencies(self, dim: int, rope_theta: float, length: int) -> RopeFrequencies:
        """Return the frequencies of `dim` rotary dimensions in a sequence of `length` tokens, in double precision."""


def unscaled(dim: int, rope_theta: float) -> tuple[float, ...]:
    """Return theta ** (-2i / dim) for each pair i of `dim` rotary dimensions."""
    return tuple(rope_theta ** (-i / dim) for i in range(0, dim, 2))


def rotary_dim(config: PreTrainedConfig, parameters: Mapping[str, Any]) -> int:
    """Return how many dimensions of each head are rotated."""
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(head_dim * (parameters.get("partial_rotary_factor") or 1.0))
