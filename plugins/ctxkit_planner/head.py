"""The end of the model: last norm, output layer and loss, forward and backward."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from ctxkit_planner.linear import PLAIN_BYTES
from ctxkit_planner.norms import Norm

if TYPE_CHECKING:
    from ctxkit_planner.sizes import Sizes
    from ctxkit_planner.tape import Tape

TILE_TOKENS = 4096
TILE_WORDS = 32768
"""The tile of TRL's fused head (`TOKEN_CHUNK_SIZE`, `_CHUNKED_LOGPROB_CHUNK_SIZE`)."""
STATISTICS = 7 * 4
"""Bytes of a token's running sums in TRL's fused head."""


@dataclass(frozen=True)
class Head:
    """It finds the residual stream live, counted by its caller, and leaves its gradient."""

    sizes: Sizes
    trains: bool
    """Whether the output layer is trained."""

    @cached_property
    def norm(self) -> Norm:
        """The last norm."""
        return Norm(self.sizes, self.sizes.wide, self.sizes.exact)

    @property
    def _words(self) -> int:
        return self.sizes.shape.vocab_size

    @property
    def _weight(self) -> float:
        """Elements of the output layer."""
        return float(self._words * self.sizes.shape.hidden_size)

    def walk(self, tape: Tape, cached: float = 0.0) -> None:
        """Walk from the last layer's output to its gradient, which is left.

        `cached` are bytes of weights in the compute type, which autocast frees when the forward ends.
        """
        stream = tape.take(self.sizes.wide if self.norm.keeps_input else 0.0)
        self.norm.forward(tape)
        {"chunked": self._chunked, "liger": self._liger, "full": self._full}[self.sizes.setup.loss](tape, cached)
        self.norm.backward(tape)
        tape.give(stream)

    def _chunked(self, tape: Tape, cached: float) -> None:
        """Follow TRL's `ChunkedLogProbFunction` with its kernels, which make no logits but one tile."""
        sizes = self.sizes
        tile = min(sizes.tokens, TILE_TOKENS) * TILE_WORDS * sizes.setup.compute_bytes + self._tile_casts
        # The hidden states of the tokens with a label are a copy.
        tape.take(sizes.wide + sizes.tokens * STATISTICS, "logits")
        tape.take(tile, "logits")
        tape.give(tile, part="logits")
        tape.give(sizes.wide, cached)
        tape.take(sizes.exact + (self._weight * 4 if self.trains else 0.0) + tile, "logits")
        self._cast(tape)
        tape.give(sizes.exact + sizes.wide + sizes.tokens * STATISTICS + tile, part="logits")
        # The gradient of the tokens with a label is laid into that of all, and that into one with the last token.
        tape.take(2 * sizes.wide)
        tape.give(sizes.wide)

    def _cast(self, tape: Tape) -> None:
        """Make the gradients of hidden states and output layer from their sums in float32, which live on."""
        if self.sizes.residual_bytes < 4:
            tape.take(self.sizes.wide, "logits")
            tape.give(self.sizes.wide, part="logits")
        if not self.trains:
            return
        exact = self._weight * 4
        if self._weight_bytes == 4:
            # The sum is the gradient.
            tape.give(exact, part="logits")
            tape.take(exact, "gradients")
        else:
            tape.take(self._weight * self._weight_bytes, "gradients")
            tape.give(exact, part="logits")

    @property
    def _weight_bytes(self) -> int:
        return PLAIN_BYTES.get(self.sizes.setup.weights, 2)

    @property
    def _tile_casts(self) -> float:
        """Bytes of the tile's hidden states and weights in the compute type, where they are float32."""
        sizes = self.sizes
        if not sizes.converted:
            return 0.0
        elements = (min(sizes.tokens, TILE_TOKENS) + min(self._words, TILE_WORDS)) * sizes.shape.hidden_size
        return float(elements * sizes.setup.compute_bytes)

    def _liger(self, tape: Tape, cached: float) -> None:
        """Follow `LigerFusedLinearCrossEntropyFunction`: chunks of logits, and the gradients within the forward."""
        sizes = self.sizes
        chunks = math.ceil(self._words / sizes.shape.hidden_size)
        chunk = 2 ** math.ceil(math.log2(max(sizes.tokens / chunks, 1)))
        logits = min(chunk, sizes.tokens) * self._words * sizes.setup.compute_bytes
        tape.take(sizes.wide + logits, "logits")
        tape.take(self._weight * self._weight_bytes if self.trains else 0.0, "gradients")
        tape.give(sizes.wide + logits, part="logits")
        tape.give(cached)

    def _full(self, tape: Tape, cached: float) -> None:
        """Follow `ForCausalLMLoss`: the logits, their float32 copy, its logarithmic softmax, and their gradients."""
        sizes = self.sizes
        exact = sizes.tokens * self._words * 4.0
        logits = sizes.tokens * self._words * float(sizes.setup.compute_bytes)
        upcast = exact if sizes.setup.compute_bytes < 4 else 0.0
        tape.take(logits + upcast + exact, "logits")
        tape.give(logits + upcast, part="logits")
        tape.give(cached)
        tape.take(2 * exact, "logits")
        tape.give(2 * exact, part="logits")
        tape.take(logits if upcast else 0.0, "logits")
        tape.give(exact, part="logits")
        tape.take(self._weight * self._weight_bytes if self.trains else 0.0, "gradients")
        tape.take(sizes.wide)
        tape.give(sizes.wide)
        tape.give(logits if upcast else 0.0, part="logits")
