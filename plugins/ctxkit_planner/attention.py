"""The attention of one layer: projections, rotation, kernel, and the projection out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from ctxkit_planner.linear import Linear
from ctxkit_planner.norms import Norm

if TYPE_CHECKING:
    from ctxkit_planner.sizes import Sizes
    from ctxkit_planner.tape import Tape


@dataclass(frozen=True)
class Attention:
    """It finds the norm's output live, and leaves its own; the backward finds and leaves their gradients."""

    sizes: Sizes

    @cached_property
    def projections(self) -> list[Linear]:
        """The linear layers of query, key and value, or the single one of all three."""
        sizes, names = self.sizes, [path.rpartition(".")[2] for path in self.sizes.shape.family.qkv]
        outputs = [sizes.query, sizes.kv, sizes.kv] if len(names) > 1 else [sizes.query + 2 * sizes.kv]
        return [
            Linear(sizes, name, sizes.hidden, size, sizes.converted) for name, size in zip(names, outputs, strict=True)
        ]

    @cached_property
    def output(self) -> Linear:
        """The projection out."""
        name = self.sizes.shape.family.output.rpartition(".")[2]
        return Linear(self.sizes, name, self.sizes.query, self.sizes.hidden)

    @cached_property
    def _norms(self) -> list[Norm]:
        """The norms of queries and keys, where there are any."""
        if self.sizes.shape.family.qk_norm == "none":
            return []
        each = 4 / self.sizes.setup.compute_bytes
        return [Norm(self.sizes, size, size * each) for size in (self.sizes.query, self.sizes.kv)]

    @property
    def _input(self) -> float:
        """Bytes of the norm's output, where a projection's backward needs it."""
        return self.sizes.wide if any(one.keeps_input for one in self.projections) else 0.0

    @property
    def _operands(self) -> float:
        """Bytes of the rotated queries and keys and of the values; eager attention and a mask repeat the heads."""
        repeated = self.sizes.setup.attention == "eager" or self.sizes.masked
        # The copies of a single head are a view.
        repeated = repeated and self.sizes.shape.kv_heads > 1
        return self.sizes.query + 2 * (self.sizes.query if repeated else self.sizes.kv)

    @property
    def _fused(self) -> float:
        """Bytes that a single projection of all three costs: its values keep it whole, and the output is copied."""
        return 2 * self.sizes.query + self.sizes.kv if len(self.projections) == 1 else 0.0

    @property
    def _scores(self) -> float:
        """Elements of the matrix that eager attention builds: heads times tokens times the row."""
        return self.sizes.tokens * self.sizes.shape.heads * self.sizes.row

    @property
    def _kernel(self) -> float:
        """Bytes that the kernel keeps beside operands and output."""
        setup, sizes = self.sizes.setup, self.sizes
        if setup.attention == "eager":
            return self._scores * (4 + setup.compute_bytes)
        bias = sizes.tokens * sizes.row * setup.compute_bytes if self.sizes.masked else 0.0
        return sizes.tokens * sizes.shape.heads * 4 + bias

    @property
    def kept(self) -> float:
        """Bytes that the forward keeps."""
        linears = sum(one.kept for one in self.projections) + self.output.kept
        norms = sum(norm.kept + (norm.stream if norm.keeps_input else 0.0) for norm in self._norms)
        return self._input + linears + norms + self._operands + self._fused + self.sizes.query + self._kernel

    def forward(self, tape: Tape) -> None:
        """Make the output; leave it and what is kept."""
        for one in self.projections:
            one.forward(tape)
        for norm in self._norms:
            norm.forward(tape)
            tape.give(0.0 if norm.keeps_input else norm.stream)
        self._rotate(tape)
        self._attend(tape)
        self.output.forward(tape)
        tape.give(self.sizes.wide - self._input)

    def _rotate(self, tape: Tape) -> None:
        """Q * cos + rotate_half(q) * sin, for queries and keys; in float32 where the stream is."""
        sizes = self.sizes
        wider = sizes.residual_bytes / sizes.setup.compute_bytes if sizes.converted else 1.0
        for size in (sizes.query, sizes.kv):
            tape.take(3 * size * wider)
            tape.give(2 * size * wider)
        tape.give(sizes.query, sizes.kv)
        if sizes.converted:
            tape.take(sizes.query + sizes.kv)

    def _attend(self, tape: Tape) -> None:
        sizes = self.sizes
        tape.take(self._operands - sizes.query - 2 * sizes.kv)
        scores = 2 * self._scores * sizes.setup.compute_bytes if sizes.setup.attention == "eager" else 0.0
        tape.take(scores)
        tape.take(self._kernel + sizes.query + self._fused)
        tape.give(scores)
        if sizes.converted:
            tape.give((sizes.query + sizes.kv) * sizes.residual_bytes / sizes.setup.compute_bytes)

    def backward(self, tape: Tape) -> None:
        """Make the gradient of the norm's output; free what the forward kept."""
        sizes = self.sizes
        cast = tape.take(sizes.hidden if sizes.converted else 0.0)
        self.output.backward(tape)
        tape.give(cast)
        self._kernel_backward(tape)
        tape.take(2 * sizes.query)
        tape.give(2 * sizes.query)
        for norm in reversed(self._norms):
            norm.backward(tape)
            tape.give(norm.stream if norm.keeps_input else 0.0)
        for place, one in enumerate(reversed(self.projections)):
            one.backward(tape)
            tape.give(one.outputs, sizes.wide if place else 0.0)
        tape.give(self._input)

    def _kernel_backward(self, tape: Tape) -> None:
        """Make the gradients of queries, keys and values from the output's."""
        sizes = self.sizes
        repeated = self._operands - sizes.query - 2 * sizes.kv
        tape.take(sizes.query + 2 * sizes.kv + repeated)
        tape.take(self._workspace)
        tape.give(self._workspace, repeated, sizes.query)
        tape.give(self._operands, sizes.query, self._kernel, self._fused)

    @property
    def _workspace(self) -> float:
        """Bytes of the backward's own buffers: torch's `mha_bwd` of flash attention 2, or eager's matrices."""
        sizes = self.sizes
        if sizes.setup.attention == "eager":
            return self._scores * (4 + 2 * sizes.setup.compute_bytes)
        if not sizes.backend.workspace:
            return 0.0
        grouped = 2 * (sizes.query - sizes.kv) if sizes.kv < sizes.query else 0.0
        return sizes.query * 4 / sizes.setup.compute_bytes + grouped
