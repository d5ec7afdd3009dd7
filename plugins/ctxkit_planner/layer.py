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

    @property
    def _before(self) -> bool:
        """Whether a norm stands before each half."""
        return self.sizes.shape.family.layer_norms[:1] != ("post_attention_layernorm",)

    @property
    def _after(self) -> bool:
        """Whether a norm stands behind each half, before its output is added to the stream."""
        return "post_feedforward_layernorm" in self.sizes.shape.family.layer_norms

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
        norms = 2 * (self._before + self._after) * self._norm.kept
        return norms + self._middle + self.attention.kept + self.feed_forward.kept

    def forward(self, tape: Tape, *, stops: bool = False) -> None:
        """Walk through the forward, which `stops` early where a checkpointed layer runs again; leave what is kept."""
        self._normalize(tape)
        self.attention.forward(tape)
        self._normalize_output(tape)
        tape.take(self.sizes.wide)
        tape.give(self.sizes.hidden)
        self._normalize(tape)
        self.feed_forward.forward(tape, stops=stops and not self._after)
        if not stops or self._after:
            self._normalize_output(tape)
            tape.give(self.sizes.hidden)
        tape.give(self.sizes.wide - self._middle)

    def backward(self, tape: Tape) -> None:
        """Walk through the backward, with the gradient of the stream live before and after; free what was kept."""
        for half in (self.feed_forward, self.attention):
            of_output = self._of_output(tape)
            half.backward(tape)
            tape.give(of_output)
            self._join(tape)
            if half is self.feed_forward:
                tape.give(self._middle)

    def _normalize(self, tape: Tape) -> None:
        if self._before:
            self._norm.forward(tape)
        else:
            tape.take(self.sizes.wide)

    def _normalize_output(self, tape: Tape) -> None:
        if self._after:
            self._norm.forward(tape)
            tape.give(self.sizes.wide)

    def _of_output(self, tape: Tape) -> float:
        """Find the gradient of a half's output, which is the stream's own unless a norm stands between."""
        if not self._after:
            return 0.0
        size = tape.take(self.sizes.wide)
        self._norm.backward(tape)
        return size

    def _join(self, tape: Tape) -> None:
        """Turn the gradient behind a half's norm into that of the stream, and add it to the one that is there."""
        if self._before:
            self._norm.backward(tape)
        extra = 0.0 if self.sizes.backend.sums_in_place else tape.take(self.sizes.wide)
        tape.give(self.sizes.wide, extra)
