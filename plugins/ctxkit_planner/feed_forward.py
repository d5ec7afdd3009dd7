"""The feed-forward part of one layer: whole, in tiles of tokens, or in experts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from ctxkit_planner.linear import Linear

if TYPE_CHECKING:
    from ctxkit_planner.sizes import Sizes
    from ctxkit_planner.tape import Tape


@dataclass(frozen=True)
class FeedForward:
    """It finds the norm's output live, and leaves its own; the backward finds and leaves their gradients."""

    sizes: Sizes

    @cached_property
    def projections(self) -> list[Linear]:
        """The linear layers in: gate and up, both in one, or one."""
        sizes, family = self.sizes, self.sizes.shape.family
        width = 2 if family.gated and len(family.mlp_in) == 1 else 1
        names = [path.rpartition(".")[2] for path in family.mlp_in]
        return [Linear(sizes, name, sizes.hidden, width * sizes.inner, sizes.converted) for name in names]

    @cached_property
    def output(self) -> Linear:
        """The linear layer out."""
        name = self.sizes.shape.family.mlp_out.rpartition(".")[2]
        return Linear(self.sizes, name, self.sizes.inner, self.sizes.hidden)

    @cached_property
    def _tile(self) -> FeedForward | None:
        """The same over one tile, where tiles are asked for and smaller than the whole."""
        tile = self.sizes.setup.mlp_tile
        if tile is None or tile >= self.sizes.tokens:
            return None
        setup = replace(self.sizes.setup, rows=1, sequence="none", sequence_size=1, mlp_tile=None)
        return FeedForward(replace(self.sizes, row=tile, setup=setup))

    @property
    def _input(self) -> float:
        """Bytes of the norm's output, where a projection's backward needs it."""
        return self.sizes.wide if any(one.keeps_input for one in self.projections) else 0.0

    @property
    def _between(self) -> float:
        """Bytes of what lies between the linear layers: gate, its activation and up; liger makes the second again."""
        if not self.sizes.shape.gated:
            return self.sizes.inner
        return self.sizes.inner * (2 if self.sizes.setup.liger_layers else 3)

    @property
    def _product(self) -> float:
        """Bytes of the last linear layer's input, where the backward needs it."""
        return self.sizes.inner if self.output.keeps_input else 0.0

    @property
    def _routed(self) -> float:
        """Bytes of the tokens in the order of their experts, each as often as it has experts."""
        return self.sizes.hidden * self.sizes.shape.experts_per_token if self.sizes.shape.experts else 0.0

    @property
    def kept(self) -> float:
        """Bytes that the forward keeps."""
        if self._tile:
            return self.sizes.wide
        linears = sum(one.kept for one in self.projections) + self.output.kept
        return self._input + linears + self._between + self._product + self._routed

    def forward(self, tape: Tape, *, stops: bool = False) -> None:
        """Make the output, unless the recomputation `stops` before; leave it and what is kept."""
        if self._tile:
            self._forward_in_tiles(tape, self._tile)
            tape.give(self.sizes.hidden if stops else 0.0)
            return
        tape.take(self._routed)
        for one in self.projections:
            one.forward(tape)
        if self.sizes.shape.gated:
            tape.take(self.sizes.inner)
        tape.take(self.sizes.inner)
        self.output.forward(tape, stops=stops)
        made = sum(one.outputs for one in self.projections) + self.sizes.inner * (1 + self.sizes.shape.gated)
        tape.give(made - self._between - self._product, self.sizes.wide - self._input)

    def backward(self, tape: Tape) -> None:
        """Make the gradient of the norm's output; free what the forward kept."""
        if self._tile:
            self._backward_in_tiles(tape, self._tile)
            return
        cast = tape.take(self.sizes.hidden if self.sizes.converted else 0.0)
        self.output.backward(tape, self._product)
        tape.give(cast)
        if self.sizes.shape.gated:
            self._backward_of_gate(tape)
        else:
            tape.take(self.sizes.inner)
            tape.give(self._between, self.sizes.inner)
        self._backward_of_projections(tape)
        tape.give(self._input, self._routed)

    def _backward_of_gate(self, tape: Tape) -> None:
        """Find the product's gradient; leave those of gate and up, and free what lay between."""
        inner = self.sizes.inner
        if self.sizes.setup.liger_layers:
            # liger writes both gradients over gate and up
            tape.give(inner)
            return
        tape.take(2 * inner)
        tape.give(inner)
        tape.give(self._between)
        if len(self.projections) == 1:
            tape.take(2 * inner)
            tape.give(2 * inner)

    def _backward_of_projections(self, tape: Tape) -> None:
        sizes = self.sizes
        for place, one in enumerate(reversed(self.projections)):
            one.backward(tape)
            tape.give(one.outputs)
            if place:
                extra = 0.0 if sizes.backend.sums_in_place else tape.take(sizes.wide)
                tape.give(sizes.wide, extra)

    def _forward_in_tiles(self, tape: Tape, tile: FeedForward) -> None:
        """Make the tiles' outputs one after the other without keeping anything, then join them."""
        tile_input = tape.take(tile.sizes.wide)
        tile.forward(tape)
        tape.give(tile.kept, tile_input - tile.sizes.wide, tile.sizes.hidden)
        tape.take(2 * self.sizes.hidden)
        tape.give(self.sizes.hidden)

    def _backward_in_tiles(self, tape: Tape, tile: FeedForward) -> None:
        """Run each tile forward again and backward, into the gradient of the whole input."""
        tape.take(self.sizes.wide)
        tape.take(tile.sizes.wide)
        tile.forward(tape)
        tile.backward(tape)
        tape.give(tile.sizes.hidden, tile.sizes.wide, self.kept)
