"""The time of a training step: operations that are counted, at rates that are assumed (docs/plan.md)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ctxkit_planner.modules import modules
from ctxkit_planner.parameters import parameters

if TYPE_CHECKING:
    from ctxkit_planner.gpus import Gpu
    from ctxkit_planner.machines import Machines
    from ctxkit_planner.setup import Setup
    from ctxkit_planner.shape import Shape

FLASH_BACKWARD = 2.5
"""Operations of flash attention's backward pass, by those of its forward pass: it computes the scores anew."""
RING_LOSS = 0.6
"""Share of attention's rate that is left where keys and values go around a ring; set with torchtitan's published runs
in view (docs/plan.md)."""
FAST_ATTENTION = {"flash_attention_3": 1.5, "flash_attention_4": 1.5, "kernels-community/vllm-flash-attn3": 1.5}
"""Rate of kernels made for Hopper and Blackwell by that of the others."""
LAYER_SECONDS = 1.2e-3
"""The least time of a layer, forward and backward: some hundred kernels that Python starts one by one."""
HOST_SHARE = 0.8
"""Share of a link's rate that copies reach."""
HOST_ADAM_RATE = 4e9
"""Parameters a second that DeepSpeed's CPU-Adam updates on one machine (ZeRO-Offload, arXiv 2101.06840)."""
ADAM_BYTES = 28
"""Read and written for a parameter in an update: weight, both moments and gradient in float32."""


@dataclass(frozen=True)
class Flops:
    """Operations for one token of a row, forward and backward, all layers."""

    linear: float
    """Of the layers' matrices, recomputed ones included."""
    attention: float
    """Of the scores and what they weigh, causal, recomputed ones included."""
    head: float
    """Of the output layer, recomputed tiles included."""
    useful: float
    """The same without anything recomputed."""

    @property
    def executed(self) -> float:
        """All that the GPU computes."""
        return self.linear + self.attention + self.head


@dataclass(frozen=True)
class Step:
    """The time of one optimizer step, in seconds, by what it goes into; links count where nothing hides them."""

    compute: float
    links: float
    """Gathering and exchanging between GPUs, copies to the host."""
    update: float
    mfu: float
    """Operations executed by the peak, over the time of `compute`."""
    assumed: bool
    """Whether the rates are the table's and not typed."""

    @property
    def seconds(self) -> float:
        """All of it."""
        return self.compute + self.links + self.update


def flops(shape: Shape, setup: Setup, tokens: int) -> Flops:
    """Return the operations for one token of rows of `tokens` tokens, each of them one document.

    Forward: 2 for each weight that a token meets; for a head, 2 x 2 x tokens / 2 for each element. Backward: twice
    that for matrices whose weights are trained, once for frozen ones; 2.5 times for flash attention.
    """
    matrices, low_rank = 2.0 * active_weights(shape), 2.0 * _adapted(shape, setup)
    head = 2.0 * shape.vocab_size * shape.hidden_size
    attention = 4.0 * shape.query_size * _attended(shape, tokens)
    again, attention_again = _recomputed(setup)
    backward = 1.0 if setup.adapter else 2.0
    linear = matrices * (1 + backward) + 3 * low_rank
    head_backward = 1.0 if setup.adapter and "lm_head" not in setup.adapter.modules_to_save else 2.0
    useful = linear + attention * (1 + FLASH_BACKWARD) + head * (1 + head_backward)
    tiles = _feed_forward(shape) * 2.0 if setup.mlp_tile else 0.0
    return Flops(
        linear=linear + again * (matrices + low_rank) + tiles,
        attention=attention * (1 + FLASH_BACKWARD + attention_again),
        head=head * (1 + head_backward + (1 if setup.loss == "chunked" else 0)),
        useful=useful,
    )


def active_weights(shape: Shape) -> int:
    """Return the weights of the layers' matrices that one token meets: of experts, those that it is sent to."""
    found = (module for module in modules(shape) if module.inputs and module.path != "lm_head")
    total = sum(
        module.weight * shape.experts_per_token // module.copies if module.copies > 1 else module.weight
        for module in found
    )
    return total - shape.vocab_size * shape.hidden_size  # the embedding is looked up


def step(shape: Shape, setup: Setup, tokens: int, machines: Machines, kernel: str = "") -> Step:
    """Return the time of an optimizer step on rows of `tokens` tokens; `kernel` is the attention backend."""
    gpu, counted = machines.gpu, flops(shape, setup, tokens)
    seen = tokens * setup.rows * setup.accumulation / setup.sequence_size
    if machines.mfu is None:
        compute = max(seen * _at_rates(counted, setup, gpu, kernel), LAYER_SECONDS * shape.layers * setup.accumulation)
    else:
        compute = seen * counted.executed / (gpu.peak * machines.mfu)
    return Step(
        compute=compute,
        links=_links(shape, setup, tokens, machines, compute),
        update=_update(shape, setup, machines),
        mfu=seen * counted.executed / gpu.peak / compute,
        assumed=machines.mfu is None,
    )


def _at_rates(counted: Flops, setup: Setup, gpu: Gpu, kernel: str) -> float:
    """Return the seconds for one token at the rates that are assumed of a GPU."""
    attention = gpu.attention * FAST_ATTENTION.get(kernel, 1.0) * (RING_LOSS if setup.sequence == "ring" else 1.0)
    return ((counted.linear + counted.head) / gpu.linear + counted.attention / attention) / gpu.peak


def _attended(shape: Shape, tokens: int) -> float:
    """Return the tokens that a token sees on average, summed over the layers."""
    whole = tokens / 2
    window = min(shape.window or tokens, tokens)
    windowed = window * (1 - window / (2 * tokens))
    return (shape.layers - shape.window_layers) * whole + shape.window_layers * windowed


def _recomputed(setup: Setup) -> tuple[float, float]:
    """Return which part of the layers' matrices, and of attention, is computed once more."""
    if setup.checkpointing == "none":
        return 0.0, 0.0
    part = 1.0 / setup.every_n_layers
    return part, 0.0 if setup.checkpointing == "selective" else part


def _adapted(shape: Shape, setup: Setup) -> int:
    return parameters(shape, setup.adapter).adapted if setup.adapter else 0


def _feed_forward(shape: Shape) -> int:
    inner = (3 if shape.gated else 2) * shape.hidden_size
    return inner * shape.intermediate_size * shape.layers


def _links(shape: Shape, setup: Setup, tokens: int, machines: Machines, compute: float) -> float:
    """Return the time of copies that nothing hides: what goes beside the computing counts for what is longer."""
    gpu = machines.gpu
    beside = _gathered(shape, setup, machines.gpus) / gpu.link + _offloaded(shape, setup, tokens) / gpu.host_link
    exposed = max(beside / HOST_SHARE - compute, 0.0)
    return exposed + (_exchanged(shape, setup, tokens) / gpu.link + _dequantized(shape, setup, gpu)) / HOST_SHARE


def _gathered(shape: Shape, setup: Setup, gpus: int) -> float:
    """Return the bytes that one GPU sends in a step for weights and gradients that are spread or summed."""
    if gpus == 1:
        return 0.0
    counted, part = parameters(shape, setup.adapter), (gpus - 1) / gpus
    gradients = 4.0 * counted.trainable
    if setup.sharding in ("fsdp", "zero3"):
        weights = 2 * setup.compute_bytes * counted.total
        return part * setup.accumulation * (weights + gradients)
    times = setup.accumulation if setup.sharding == "zero2" else 1
    return part * 2 * gradients * times


def _offloaded(shape: Shape, setup: Setup, tokens: int) -> float:
    """Return the bytes that go to the host and back in a step, while the GPU computes."""
    kept = tokens / setup.sequence_size * setup.rows * shape.hidden_size * shape.layers * setup.compute_bytes
    activations = 2 * kept * setup.accumulation if setup.activation_offload else 0.0
    weights = 0.0
    if setup.offload_param != "none":
        weights = 2 * setup.compute_bytes * parameters(shape, setup.adapter).total / setup.shards * setup.accumulation
    return activations + weights


def _exchanged(shape: Shape, setup: Setup, tokens: int) -> float:
    """Return the bytes that Ulysses sends in a step: queries, keys, values and outputs, each time they are made."""
    if setup.sequence != "ulysses":
        return 0.0
    size = setup.sequence_size
    elements = 2 * shape.query_size + 2 * max(shape.kv_size, shape.head_dim * size)
    passes = 2 if setup.checkpointing == "none" else 3
    local = tokens / size * setup.rows * setup.accumulation
    return local * elements * setup.compute_bytes * shape.layers * passes * (size - 1) / size


def _dequantized(shape: Shape, setup: Setup, gpu: Gpu) -> float:
    """Return the time in which a step's passes make 16-bit weights of quantized ones: read, write, read."""
    if setup.weights not in ("nf4", "nf4_double", "int8"):
        return 0.0
    passes = 2 if setup.checkpointing == "none" else 3
    return passes * setup.accumulation * 4.5 * parameters(shape, setup.adapter).quantizable / gpu.memory_rate


def _update(shape: Shape, setup: Setup, machines: Machines) -> float:
    """Return the time of the optimizer's update, on the GPU or on the host."""
    gpu, trained = machines.gpu, parameters(shape, setup.adapter).trainable
    if setup.offload_optimizer == "none":
        updated = trained if setup.sharding == "none" else trained / setup.shards
        return ADAM_BYTES * updated / gpu.memory_rate
    copies = 4.0 * trained / setup.shards / (gpu.host_link * HOST_SHARE)
    return trained / machines.count / HOST_ADAM_RATE + copies
