"""The bytes of the tensors that a step is made of, for all tokens of one device."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from ctxkit_planner.modules import layer_modules
from ctxkit_planner.parameters import adapted_modules

if TYPE_CHECKING:
    from ctxkit_planner.modules import Module
    from ctxkit_planner.setup import Setup
    from ctxkit_planner.shape import Shape


@dataclass(frozen=True)
class Backend:
    """What a device's kernels do that the sizes of tensors do not show."""

    sums_in_place: bool = True
    """Whether autograd adds a second gradient into the first; torch's fake tensors make a third."""
    workspace: bool = True
    """Whether the backward of flash attention has buffers: a float32 sum of the queries' gradient, and the gradients
    of keys and values for each query head. CUDA's has, the CPU's has not."""
    float32_layer_norm: bool = True
    """Whether autocast runs LayerNorm in float32: CUDA's does."""


CUDA = Backend()
TRACKED = Backend(sums_in_place=False, workspace=False, float32_layer_norm=False)
"""What torch's MemTracker sees on fake CPU tensors."""


@dataclass(frozen=True)
class Sizes:
    """Bytes of tensors of all tokens that one device works on in one batch.

    `wide` is the residual stream (float32 under autocast where the weights are float32), `hidden`, `query`, `kv` and
    `inner` are in the compute type, `exact` is the hidden size in float32.
    """

    shape: Shape
    setup: Setup
    row: int
    """Tokens of one row."""
    backend: Backend = CUDA

    @cached_property
    def tokens(self) -> float:
        """Tokens of the batch on one device: rows times their length, divided by the devices that share a row."""
        return self.setup.rows * self.row / self.setup.sequence_size

    @property
    def residual_bytes(self) -> int:
        """Bytes of an element of the residual stream: that of the embedding's weights."""
        return 4 if self.setup.weights == "float32" else 2

    @cached_property
    def wide(self) -> float:
        """The residual stream: what a checkpoint of a layer is."""
        return self.tokens * self.shape.hidden_size * self.residual_bytes

    @cached_property
    def hidden(self) -> float:
        """The hidden size in the compute type."""
        return self.tokens * self.shape.hidden_size * self.setup.compute_bytes

    @cached_property
    def exact(self) -> float:
        """The hidden size in float32, as norms and the adapters' casts have it."""
        return self.tokens * self.shape.hidden_size * 4.0

    @cached_property
    def query(self) -> float:
        """The queries; the attention's output is as large."""
        return self.tokens * self.shape.query_size * self.setup.compute_bytes

    @cached_property
    def kv(self) -> float:
        """The keys, or the values; under Ulysses each device has at least one head of them."""
        heads = max(self.shape.kv_heads, self.setup.sequence_size if self.setup.sequence == "ulysses" else 1)
        return self.tokens * heads * self.shape.head_dim * self.setup.compute_bytes

    @cached_property
    def inner(self) -> float:
        """The inner size of the feed-forward part: a token of a mixture of experts sees several."""
        shape = self.shape
        width = shape.experts_per_token * shape.expert_intermediate_size + shape.shared_intermediate_size
        sparse = shape.experts and len(shape.dense_layers) < shape.layers
        return self.tokens * (width if sparse else shape.intermediate_size) * self.setup.compute_bytes

    @property
    def masked(self) -> bool:
        """Whether sdpa is given a mask of the row's length squared: as the setup says, and for a sliding window."""
        setup, shape = self.setup, self.shape
        slides = 0 < shape.window < self.row
        return setup.attention == "sdpa" and (setup.dense_mask or slides)

    @property
    def converted(self) -> bool:
        """Whether a norm's output has to be cast for a matrix product: a float32 stream under autocast."""
        return self.residual_bytes > self.setup.compute_bytes

    @cached_property
    def adapted(self) -> frozenset[str]:
        """The last names of the modules of a layer that have an adapter beside."""
        adapter = self.setup.adapter
        return frozenset(module.name for module in adapted_modules(self.shape, adapter)) if adapter else frozenset()

    @cached_property
    def trains(self) -> bool:
        """Whether the model's own weights are trained."""
        return self.setup.adapter is None

    @cached_property
    def weights(self) -> dict[str, Module]:
        """The modules of the largest layer, by their last names."""
        layers = range(self.shape.layers)
        layer = next((layer for layer in layers if layer not in self.shape.dense_layers), 0)
        return {module.name: module for module in layer_modules(self.shape, layer)}
