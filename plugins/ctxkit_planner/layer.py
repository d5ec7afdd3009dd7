"""One decoder layer, tensor by tensor: what its forward keeps for the backward, and what both need on the way.

The walk follows transformers' modules as they are written (`LlamaDecoderLayer` and its relatives), torch's autograd
formulas for what an operation keeps, and peft's `lora.Linear.forward`; docs/plan-memory.md lists the tensors.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from ctxkit_planner.attention import Attention
from ctxkit_planner.feed_forward import FeedForward
from ctxkit_planner.norms import Norm

if TYPE_CHECKING:
    from ctxkit_planner.sizes import Sizes
    from ctxkit_planner.tape import Tape


@dataclass(frozen=True)
class Layer:
    """One layer over all tokens of a device.

    The two halves (attention, feed-forward) are alike: norms, the part itself, and the sum with what came in.
    """

    sizes: Sizes

    @cached_property
    def _norms(self) -> int:
        """Norms of one half: one, or two where what is added to the stream has one as well."""
        return max(len(self.sizes.shape.family.layer_norms) // 2, 1)

    @cached_property
    def _norm(self) -> Norm:
        return Norm(self.sizes, self.sizes.wide, self.sizes.exact)

    @cached_property
    def attention(self) -> Attention:
        """The attention part, norms excluded."""
        return Attention(self.sizes)

    @cached_property
    def feed_forward(self) -> FeedForward:
        """The feed-forward part, norms excluded."""
        return FeedForward(self.sizes)

    @property
    def kept_input(self) -> float:
        """Bytes of the layer's input, where the first norm's backward needs it."""
        return self._middle

    @property
    def _middle(self) -> float:
        """Bytes of the stream between the halves, where a backward needs it."""
        return self.sizes.wide if self._norm.keeps_input else 0.0

    @property
    def kept(self) -> float:
        """Bytes that the forward keeps where the layer is not checkpointed, beside its input."""
        norms = 2 * self._norms * self._norm.kept
        return norms + self._middle + self.attention.kept + self.feed_forward.kept

    def forward(self, tape: Tape, *, stops: bool = False) -> None:
        """Walk through the forward, which `stops` early where a checkpointed layer runs again; leave what is kept."""
        self._normalize(tape)
        self.attention.forward(tape)
        tape.take(self.sizes.wide)
        tape.give(self.sizes.hidden)
        self._normalize(tape)
        self.feed_forward.forward(tape, stops=stops)
        tape.give(self.sizes.wide - self._middle, 0.0 if stops else self.sizes.hidden)

    def backward(self, tape: Tape) -> None:
        """Walk through the backward, with the gradient of the stream live before and after; free what was kept."""
        self.feed_forward.backward(tape)
        self._join(tape)
        tape.give(self._middle)
        self.attention.backward(tape)
        self._join(tape)

    def _normalize(self, tape: Tape) -> None:
        for _ in range(self._norms - 1):
            self._norm.forward(tape)
            tape.give(self.sizes.wide)
        self._norm.forward(tape)

    def _join(self, tape: Tape) -> None:
        """Turn the gradient behind a half's norms into that of the stream, and add it to the one that is there."""
        for _ in range(self._norms):
            self._norm.backward(tape)
        extra = 0.0 if self.sizes.backend.sums_in_place else tape.take(self.sizes.wide)
        tape.give(self.sizes.wide, extra)
