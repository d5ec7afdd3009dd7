"""A norm of the residual stream or of the heads: what its forward keeps, and the float32 tensors of its backward."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ctxkit_planner.sizes import Sizes
    from ctxkit_planner.tape import Tape


@dataclass(frozen=True)
class Norm:
    """transformers' norm modules on an input of so many bytes, `exact` in float32.

    RMSNorm is written in single operations: a float32 copy of its input, its square, the product with the inverse
    root, the cast back and the product with the weight. LayerNorm is one operation, and so is liger's RMSNorm.
    """

    sizes: Sizes
    stream: float
    """Bytes of the input, and of the output."""
    exact: float

    @property
    def _single(self) -> bool:
        return self.sizes.shape.family.norm_bias or self.sizes.setup.liger_layers

    @property
    def _copy(self) -> float:
        """Bytes of the float32 copy of the input; none where it is float32 already."""
        return self.exact if self.exact > self.stream else 0.0

    @property
    def kept(self) -> float:
        """Bytes that the forward keeps beside input and output."""
        if self._single:
            wide = self.sizes.shape.family.norm_bias and self.sizes.backend.float32_layer_norm
            return self._copy if wide and not self.sizes.setup.liger_layers else 0.0
        normalized = (self.exact if self._in_float32 else self.stream) if self.sizes.trains else 0.0
        return self._copy + normalized

    @property
    def keeps_input(self) -> bool:
        """Whether the backward needs the input itself."""
        return not self._copy or (self._single and not self.kept)

    @property
    def _in_float32(self) -> bool:
        """Whether the product with the weight is made in float32 too."""
        return self.sizes.shape.model_type.startswith("gemma")

    def forward(self, tape: Tape) -> None:
        """Make the output; leave it and what is kept."""
        tape.take(self.kept)
        if self._single:
            tape.take(self.stream)
            return
        tape.take(self.exact)
        tape.take(self.exact if self._in_float32 else 0.0 if self.sizes.trains or not self._copy else self.stream)
        tape.take(self.stream)
        tape.give(self.exact)
        tape.give(self.exact if self._in_float32 else 0.0 if self.sizes.trains or not self._copy else self.stream)

    def backward(self, tape: Tape) -> None:
        """Make the input's gradient of the output's, which it frees, as it does what the forward kept."""
        if self._single:
            tape.take(self.stream)
            tape.give(self.stream, self.kept)
            return
        # d = g * w; then the gradients of x * rsqrt(mean(x ** 2) + eps), whose own power rule makes three tensors
        tape.take(self.exact)
        tape.give(self.stream, self.kept - self._copy)
        tape.take(4 * self.exact)
        tape.give(4 * self.exact, self._copy)
        tape.take(self.stream)
        tape.give(self.exact)
