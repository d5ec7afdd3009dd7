"""What a recipe may say about each scaler, and how the scaler is built from it."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, PositiveFloat, model_validator

from ctxkit.errors import CtxkitError, ExitCode
from ctxkit.spec import Context, RopeOptions, RopeScaler


class ExtensionOptions(RopeOptions):
    """Options of a scaler whose whole aim is a longer window."""

    @model_validator(mode="after")
    def _state_one_aim(self) -> Self:
        """Refuse two aims, which could disagree, and none."""
        if (self.factor is None) == (self.target_length is None):
            raise ValueError("state exactly one of factor and target_length")
        return self

    def windows(self, context: Context) -> tuple[int, int]:
        """Return the original and the target window in tokens.

        Raises:
            CtxkitError: the original window is unknown, or the target is shorter.
        """
        original = context.original_max_position_embeddings
        if original < 1:
            raise CtxkitError(
                "the original window of the model is not known, so no factor follows",
                "state the pre-training window of the base model in tokens",
                exit_code=ExitCode.RECIPE,
            )
        target = self.window(original)
        if target < original:
            raise CtxkitError(
                f"the target window of {target} tokens is shorter than the original window of {original}",
                f"state a target_length of at least {original}, or leave out `rope`",
                exit_code=ExitCode.RECIPE,
            )
        return original, target


class LinearOptions(ExtensionOptions):
    """Position interpolation: every frequency divided by the factor."""

    kind: Literal["linear"]
    """Position interpolation (Chen et al. 2023)."""

    def build(self, context: Context) -> RopeScaler:
        """Return the scaler for the window that the options and the original window give."""
        from ctxkit_rope.linear import LinearScaler

        original, target = self.windows(context)
        return LinearScaler(original_max_position_embeddings=original, target_length=target)


class YarnOptions(ExtensionOptions):
    """YaRN: fast dimensions kept, slow ones divided by the factor, a ramp between, and warmer attention."""

    kind: Literal["yarn"]
    """YaRN (Peng et al. 2023), as its reference code and transformers compute it."""
    beta_fast: PositiveFloat = 32.0
    """Turns within the original window from which a dimension is kept as it is."""
    beta_slow: PositiveFloat = 1.0
    """Turns within the original window up to which a dimension is fully interpolated."""
    attention_factor: float | None = Field(default=None, gt=0)
    """Factor on cos and sin; unset, the paper's 0.1 * ln(factor) + 1, which servers also assume."""
    truncate: bool = True
    """Round the ends of the ramp outwards to whole dimensions."""

    @model_validator(mode="after")
    def _order_betas(self) -> Self:
        """Refuse a ramp that runs backwards."""
        if self.beta_fast <= self.beta_slow:
            raise ValueError("beta_fast must be greater than beta_slow")
        return self

    def build(self, context: Context) -> RopeScaler:
        """Return the scaler for the window that the options and the original window give."""
        from ctxkit_rope.yarn import YarnScaler

        original, target = self.windows(context)
        return YarnScaler(
            original_max_position_embeddings=original,
            target_length=target,
            beta_fast=self.beta_fast,
            beta_slow=self.beta_slow,
            attention_factor=self.attention_factor,
            truncate=self.truncate,
        )
