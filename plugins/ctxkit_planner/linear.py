"""One linear layer, with or without an adapter: what its forward keeps, and what both directions need on the way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ctxkit_planner.sizes import Sizes
    from ctxkit_planner.tape import Tape

PLAIN_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
"""Bytes of a weight that is multiplied as it lies in memory."""


@dataclass(frozen=True)
class Linear:
    """A linear layer of the given name, from an input to an output of so many bytes."""

    sizes: Sizes
    name: str
    inputs: float
    """Bytes of the input in the compute type."""
    outputs: float
    converted: bool = False
    """Whether the input is float32 and the product wants the compute type."""

    @property
    def adapted(self) -> bool:
        """Whether an adapter lies beside."""
        return self.name in self.sizes.adapted

    @property
    def _exact_adapter(self) -> bool:
        """Whether the adapter is float32 and its input is not, so that peft casts the input."""
        adapter = self.sizes.setup.adapter
        return adapter is not None and adapter.dtype_bytes == 4 and self.sizes.setup.compute_bytes < 4

    @property
    def keeps_input(self) -> bool:
        """Whether the backward needs the input itself, which neighbours then share."""
        return not self.copies and (self.sizes.trains or self.adapted)

    @property
    def copies(self) -> bool:
        """Whether the backward keeps a cast copy of the input, one for each linear layer."""
        cast = self.converted or (self.adapted and self._exact_adapter)
        return cast and (self.sizes.trains or self.adapted)

    @property
    def kept(self) -> float:
        """Bytes that the forward keeps beside its output."""
        return self._kept_input + (self._weight_bytes if self._keeps_weight else 0.0)

    @property
    def _kept_input(self) -> float:
        return (self.inputs if self.copies else 0.0) + self._inner

    @property
    def _inner(self) -> float:
        """Bytes of what lies between the two low-rank matrices."""
        adapter = self.sizes.setup.adapter
        rank = adapter.r if adapter and self.adapted else 0
        return rank * self.sizes.tokens * self.sizes.setup.compute_bytes

    def forward(self, tape: Tape, *, stops: bool = False) -> None:
        """Make the output; leave it and what is kept.

        A recomputed layer `stops` where the last tensor is kept, before its last linear layer has an output.
        """
        weight = tape.take(self._weight_bytes)
        cast = tape.take(self.inputs) if self.converted and not self.copies else 0.0
        output = 0.0 if stops and not self.adapted else tape.take(self.outputs)
        tape.give(cast, 0.0 if self._keeps_weight else weight)
        exact = tape.take(self._exact_input)
        tape.take(self._kept_input)
        if stops:
            tape.give(output)
        elif self.adapted:
            self._add_adapter(tape)
        tape.give(exact)

    def _add_adapter(self, tape: Tape) -> None:
        """Follow peft: the result plus B times A times x, which is scaled before it is added."""
        tape.take(2 * self.outputs)
        tape.give(self.outputs)
        tape.take(self.outputs)
        tape.give(2 * self.outputs)

    def backward(self, tape: Tape, own_input: float = 0.0) -> None:
        """Make the input's gradient from the output's; leave it, and free what the forward kept.

        The output's gradient is the caller's, and the input too unless it is this layer's own, of so many bytes.
        """
        if self.adapted:
            self._backward_of_adapter(tape, own_input)
        weight = self._weight_bytes if self._keeps_weight else tape.take(self._weight_bytes)
        tape.take(self.inputs)
        tape.give(weight)
        if self.adapted:
            self._sum(tape, self.inputs)
        if self.sizes.trains:
            self._gradient(tape)
            tape.give(self._kept_input, own_input)
        if self.converted:
            tape.take(2 * self.inputs)
            tape.give(self.inputs)

    def _backward_of_adapter(self, tape: Tape, own_input: float) -> None:
        scaled = tape.take(self.outputs)
        tape.take(self._inner)
        tape.give(scaled)
        tape.take(self.inputs)
        tape.give(self._kept_input, self._inner, own_input)
        if self._exact_adapter:
            exact = tape.take(self._exact_input)
            tape.give(exact)

    def _gradient(self, tape: Tape) -> None:
        module = self.sizes.weights.get(self.name)
        weight = module.weight if module else 0
        setup = self.sizes.setup
        if setup.weights == "float32" and setup.compute_bytes < 4:
            cast = tape.take(weight * setup.compute_bytes)
            tape.take(weight * 4.0, "gradients")
            tape.give(cast)
        else:
            tape.take(weight * setup.compute_bytes, "gradients")

    def _sum(self, tape: Tape, size: float) -> None:
        """Add two gradients of the same tensor."""
        if not self.sizes.backend.sums_in_place:
            tape.take(size)
            tape.give(size)
        tape.give(size)

    @property
    def _exact_input(self) -> float:
        """Bytes of peft's cast of the input to a float32 adapter's type; none where it is float32 already."""
        cast = self.adapted and self._exact_adapter and not self.converted
        return self.inputs * 4.0 / self.sizes.setup.compute_bytes if cast else 0.0

    @property
    def _keeps_weight(self) -> bool:
        """Whether the weight's copy lives until the backward: autocast's does, a dequantized one is made again."""
        return self.sizes.setup.weights == "float32"

    @property
    def _weight_bytes(self) -> float:
        """Bytes of the weight in the compute type, where it has to be made of another one for the product."""
        module, setup = self.sizes.weights.get(self.name), self.sizes.setup
        plain = PLAIN_BYTES.get(setup.weights)
        return 0.0 if module is None or plain == setup.compute_bytes else module.weight * float(setup.compute_bytes)
