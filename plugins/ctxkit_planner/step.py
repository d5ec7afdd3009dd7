"""One training step in the order in which its tensors come and go: forward, loss, backward, optimizer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from ctxkit_planner.head import Head
from ctxkit_planner.layer import Layer

if TYPE_CHECKING:
    from ctxkit_planner.sizes import Sizes
    from ctxkit_planner.states import States
    from ctxkit_planner.tape import Tape

IN_FLIGHT = 5
"""Checkpoints that are still on the device while the others lie on the host (TRL's `max_fwd_stash_size`)."""
TOKEN = 8 + 8 + 8 + 1
"""Bytes of a token beside its activations: id, label, position, mask."""


@dataclass(frozen=True)
class Step:
    """A step that is not the first, so that the optimizer has its states."""

    sizes: Sizes
    states: States

    @cached_property
    def layer(self) -> Layer:
        """The layer that all are like; in a mixture of experts a sparse one."""
        return Layer(self.sizes)

    def walk(self, tape: Tape) -> None:
        """Take and give back every tensor of the step."""
        self._standing(tape)
        accumulates = self.sizes.setup.accumulation > 1
        tape.take(self.states.gradients if accumulates else 0.0, "gradients")
        self._batch(tape)
        if not accumulates:
            tape.take(self.states.gradients, "gradients")
        self._tied(tape)
        self._optimizer(tape)

    def _tied(self, tape: Tape) -> None:
        """The gradients of a tied embedding, from both its ends, meet when the backward is done."""
        if self.sizes.shape.tied and self.sizes.trains:
            both = 1 if self.sizes.backend.sums_in_place else 2
            size = tape.take(both * self._embedding * self.states.gradient_bytes, "gradients")
            tape.give(size, part="gradients")

    def _standing(self, tape: Tape) -> None:
        """What is there from step to step."""
        setup, states = self.sizes.setup, self.states
        if setup.offload_param == "none":
            tape.take(states.weights, "weights")
            tape.take(states.adapters, "adapters")
        if setup.offload_optimizer == "none":
            tape.take(states.optimizer, "optimizer")
        tape.take(states.gathered + self._exchanged, "communication")

    def _batch(self, tape: Tape) -> None:
        """Forward and backward of one batch; its gradients are freed, for they are counted with all others."""
        before = dict(tape.live)
        tape.take(self._inputs)
        tape.take(self._kept)
        if not self._recomputed_last:
            tape.give(self.layer.kept)
            self.layer.forward(tape)
        cached = tape.take(self._cached)
        Head(self.sizes, trains=self.sizes.trains).walk(tape, cached)
        self._of_layer(tape, recomputed=self._recomputed_last)
        tape.give(tape.live["gradients"] - before["gradients"], part="gradients")
        # The first layer's backward is the last: all other gradients are there, and nothing of the other layers.
        tape.give(self._kept - self._of_one)
        tape.give(0.0 if self._recomputed_last else -self.layer.kept)
        rest = tape.take(self._gradients_of_others, "gradients")
        self._of_layer(tape, recomputed=bool(self._recomputed))
        tape.give(rest, part="gradients")
        for part, size in before.items():
            tape.give(tape.live[part] - size, part=part)

    def _of_layer(self, tape: Tape, *, recomputed: bool) -> None:
        whole = tape.take(self.states.gathered_in_layer, "communication")
        if recomputed:
            # An adapter's gradient is scaled before the first tensor is asked for that has to be made again.
            scaled = tape.take(self.sizes.hidden if self.layer.feed_forward.output.adapted else 0.0)
            self.layer.forward(tape, stops=True)
            tape.give(scaled)
        self.layer.backward(tape)
        tape.give(whole, part="communication")

    def _optimizer(self, tape: Tape) -> None:
        on_host = self.sizes.setup.offload_optimizer != "none"
        step = tape.take(0.0 if on_host else self.states.step, "optimizer")
        tape.give(step, part="optimizer")

    @cached_property
    def _recomputed(self) -> int:
        """Layers that keep their input alone and are made again."""
        setup, layers = self.sizes.setup, self.sizes.shape.layers
        return 0 if setup.checkpointing == "none" else math.ceil(layers / max(setup.every_n_layers, 1))

    @property
    def _recomputed_last(self) -> bool:
        """Whether the last layer is one of them: the first is, and each n-th after it."""
        setup = self.sizes.setup
        return bool(self._recomputed) and (self.sizes.shape.layers - 1) % max(setup.every_n_layers, 1) == 0

    @property
    def _checkpoint(self) -> float:
        """Bytes of one: a layer's input; selective checkpointing keeps the attention's output as well."""
        sizes = self.sizes
        selective = sizes.setup.checkpointing == "selective"
        return sizes.wide + (sizes.query + sizes.tokens * sizes.shape.heads * 4 if selective else 0.0)

    @cached_property
    def _kept(self) -> float:
        """Bytes on the device when the forward has ended."""
        here = min(self._recomputed, IN_FLIGHT) if self.sizes.setup.activation_offload else self._recomputed
        whole = self.sizes.shape.layers - self._recomputed
        return here * self._checkpoint + whole * (self.layer.kept + self.layer.kept_input)

    @property
    def _of_one(self) -> float:
        """Bytes of what the first layer keeps."""
        return self._checkpoint if self._recomputed else self.layer.kept + self.layer.kept_input

    @property
    def _gradients_of_others(self) -> float:
        """Bytes of the gradients that are there before the first layer's backward."""
        states, shape = self.states, self.sizes.shape
        if self.sizes.setup.accumulation > 1:
            return 0.0
        layer = states.counted.adapted / shape.layers if states.setup.adapter else states.counted.largest_layer
        later = layer + (0 if shape.tied or not self.sizes.trains else self._embedding)
        return max(states.gradients * (1 - later / max(states.counted.trainable, 1)), 0.0)

    @property
    def _embedding(self) -> float:
        """Elements of the embedding."""
        return float(self.sizes.shape.vocab_size * self.sizes.shape.hidden_size)

    @property
    def _cached(self) -> float:
        """Bytes of the weights' copies in the compute type, which autocast keeps until the forward ends."""
        setup, counted = self.sizes.setup, self.states.counted
        if setup.weights != "float32" or setup.compute_bytes == 4 or not self._recomputed:
            return 0.0
        return float(counted.quantizable * setup.compute_bytes) if self.sizes.trains else 0.0

    @property
    def _inputs(self) -> float:
        """Bytes of the batch itself, of cosine and sine, and of a mask of the row's length squared."""
        sizes, setup = self.sizes, self.sizes.setup
        rotation = 2 * sizes.tokens * sizes.shape.head_dim * sizes.residual_bytes
        mask = 1 if sizes.masked else 0
        mask = setup.compute_bytes if setup.attention == "eager" else mask
        return sizes.tokens * TOKEN + rotation + sizes.tokens * sizes.row * mask

    @property
    def _exchanged(self) -> float:
        """Bytes of what devices that share a row send each other.

        Ulysses: queries and one of the others before and after an all-to-all (arXiv 2309.14509). Ring: torch's
        default gathers the keys and values of the whole row.
        """
        sizes, setup = self.sizes, self.sizes.setup
        if setup.sequence == "ulysses":
            return 2 * (sizes.query + sizes.kv)
        return 2 * sizes.kv * setup.sequence_size if setup.sequence == "ring" else 0.0
