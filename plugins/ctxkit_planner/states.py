"""What a model's parameters bring with them: weights, gradients and the optimizer's states, on device and host.

All are bytes of one device. Sources: the ZeRO paper (arXiv 1910.02054, section 3) for what each stage divides,
DeepSpeed's `stage_1_and_2.py` and `stage3.py` and accelerate's `fsdp_utils.py` for the types.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from ctxkit_planner.parameters import parameters

if TYPE_CHECKING:
    from ctxkit_planner.parameters import Parameters
    from ctxkit_planner.setup import Setup
    from ctxkit_planner.shape import Shape

WEIGHT_BYTES = {
    "float32": 4.0,
    "bfloat16": 2.0,
    "float16": 2.0,
    "int8": 1.0 + 4 / 4096,
    "nf4": 0.5 + 4 / 64,
    "nf4_double": 0.5 + 1 / 64 + 4 / (64 * 256),
}
"""Bytes of a parameter. NF4 has a float32 constant for each 64, or with double quantization a byte and, for each 256
constants, a float32 (QLoRA, arXiv 2305.14314, section 3); LLM.int8 a float32 for each row."""

OPTIMIZER_BYTES = {
    "adamw": 8.0,
    "adamw_8bit": 2.0 + 2 * 4 / 256,
    "adamw_4bit": 1.0 + 2 * 4 / 128,
    "sgd": 0.0,
    "momentum": 4.0,
    "lion_8bit": 1.0 + 4 / 256,
    "factored": 0.01,
}
"""Bytes of state for a float32 parameter; 8-bit states have a float32 for each 256 elements (arXiv 2110.02861)."""

PERSISTENT_GATHER = 1e9
"""Parameters that ZeRO-3 lets live at a time (`stage3_max_live_parameters`)."""
BUCKET = 5e8
"""Elements of ZeRO's buckets (`reduce_bucket_size`), which ZeRO-1 and 2 hold as long as they are not all weights."""


def optimizer_kind(name: str) -> str:
    """Return the kind of states of a `TrainingArguments.optim`; an unknown name counts as AdamW."""
    if "4bit" in name or "int4" in name:
        return "adamw_4bit"
    if "8bit" in name or "fp8" in name:
        return "lion_8bit" if name.startswith(("lion", "paged_lion", "rmsprop")) else "adamw_8bit"
    if name.startswith(("lion", "paged_lion", "rmsprop", "adagrad", "adalomo", "stable_adamw_lion")):
        return "momentum"
    if name.startswith(("adafactor", "galore", "apollo", "lomo", "grokadamw_factored")):
        return "factored"
    return "sgd" if name == "sgd" else "adamw"


@dataclass(frozen=True)
class States:
    """Bytes that the parameters of one device take."""

    shape: Shape
    setup: Setup

    @cached_property
    def counted(self) -> Parameters:
        """The parameters of the whole model."""
        return parameters(self.shape, self.setup.adapter)

    @property
    def _deepspeed(self) -> bool:
        return self.setup.sharding in {"zero1", "zero2", "zero3"}

    @property
    def _weight_shards(self) -> int:
        return self.setup.shards if self.setup.sharding in {"zero3", "fsdp"} else 1

    @property
    def _state_shards(self) -> int:
        return 1 if self.setup.sharding == "none" else self.setup.shards

    @property
    def _gradient_shards(self) -> int:
        return self.setup.shards if self.setup.sharding in {"zero2", "zero3", "fsdp"} else 1

    @property
    def weight_bytes(self) -> float:
        """Bytes of one parameter of the model: DeepSpeed casts to the compute type, FSDP trains float32 shards."""
        setup = self.setup
        if self._deepspeed and setup.weights == "float32":
            return float(setup.compute_bytes)
        if setup.sharding == "fsdp" and setup.adapter is None and setup.weights in {"bfloat16", "float16"}:
            return 4.0
        return WEIGHT_BYTES[setup.weights]

    @property
    def trained_bytes(self) -> float:
        """Bytes of one trained parameter."""
        adapter = self.setup.adapter
        if adapter is None:
            return self.weight_bytes
        if self._deepspeed:
            return float(self.setup.compute_bytes)
        return 4.0 if self.setup.sharding == "fsdp" else float(adapter.dtype_bytes)

    @property
    def weights(self) -> float:
        """Bytes of the model's own weights; norms, embeddings and the output layer are never quantized."""
        plain = 2.0 if self.setup.weights in {"int8", "nf4", "nf4_double"} else self.weight_bytes
        rest = self.counted.base - self.counted.quantizable
        return (self.counted.quantizable * self.weight_bytes + rest * plain) / self._weight_shards

    @property
    def adapters(self) -> float:
        """Bytes of the adapter and of the modules that are trained whole beside it."""
        return (self.counted.adapted + self.counted.saved) * self.trained_bytes / self._weight_shards

    @property
    def gradient_bytes(self) -> float:
        """Bytes of one gradient: as its parameter."""
        return self.trained_bytes

    @property
    def gradients(self) -> float:
        """Bytes of all gradients on the device; offloaded states of ZeRO-2 and 3 take theirs to the host."""
        if self._deepspeed and self.setup.offload_optimizer != "none" and self.setup.sharding != "zero1":
            return 0.0
        return self.counted.trainable * self.gradient_bytes / self._gradient_shards

    @property
    def all_gradients(self) -> float:
        """Bytes of the gradients of the whole model, before any are divided."""
        return self.counted.trainable * self.gradient_bytes

    @property
    def exact_gradients(self) -> float:
        """Bytes of this device's share of the gradients in float32, as an optimizer on the host reads them."""
        return self.counted.trainable * 4.0 / self._state_shards

    @property
    def optimizer(self) -> float:
        """Bytes of the optimizer's states, with DeepSpeed's float32 copies of the trained parameters."""
        each = OPTIMIZER_BYTES[optimizer_kind(self.setup.optimizer)]
        # The states of torch's and bitsandbytes' optimizers have the type of the parameter, or 8 bits.
        if each == 8.0 and not self._deepspeed:
            each = 2 * self.trained_bytes
        master = 4.0 if self._deepspeed else 0.0
        return self.counted.trainable * (each + master) / self._state_shards

    @property
    def step(self) -> float:
        """Bytes that the optimizer's step makes for itself: copies of the parameters, in torch's `foreach` form."""
        name = self.setup.optimizer
        if self._deepspeed:
            return self.exact_gradients
        foreach = name in {"adamw_torch", "sgd", "adagrad", "rmsprop"}
        return self.counted.trainable * self.trained_bytes / self._state_shards if foreach else 0.0

    @property
    def gathered(self) -> float:
        """Bytes of the parameters that are whole all through a step, and of the buckets of gradients.

        FSDP's root group (embedding, last norm, output layer) stays whole, and one layer is gathered ahead; all stay
        where nothing is freed after the forward pass.
        """
        counted, each = self.counted, float(self.setup.compute_bytes)
        if self.setup.sharding == "zero3":
            return min(PERSISTENT_GATHER, counted.total) * each + self._buckets
        if self.setup.sharding == "fsdp" and not self.setup.reshards:
            return counted.base * each
        if self.setup.sharding == "fsdp":
            root = counted.base - self.layer * self.shape.layers
            return (max(root, 0) + self.layer) * each
        return self._buckets

    @property
    def gathered_in_layer(self) -> float:
        """Bytes that FSDP has in a layer's backward besides: its parameters, and its gradients in float32 to reduce."""
        if self.setup.sharding != "fsdp":
            return 0.0
        trained = self.layer if self.setup.adapter is None else self.counted.adapted / self.shape.layers
        gathered = self.layer * float(self.setup.compute_bytes) if self.setup.reshards else 0.0
        return gathered + trained * 4.0

    @property
    def layer(self) -> int:
        """Elements of the largest layer."""
        return self.counted.largest_layer

    @property
    def _buckets(self) -> float:
        """Bytes of the buckets in which gradients travel; DDP's hold all of them a second time."""
        trained = self.counted.trainable
        if self._deepspeed:
            return min(BUCKET, trained) * 2.0 * self.setup.compute_bytes if self.setup.shards > 1 else 0.0
        distributed = self.setup.sharding == "none" and self.setup.shards > 1
        return trained * self.gradient_bytes if distributed else 0.0
