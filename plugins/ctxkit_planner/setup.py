"""How a stage is trained, in the words that its memory depends on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Weights = Literal["float32", "bfloat16", "float16", "int8", "nf4", "nf4_double"]
Checkpointing = Literal["none", "full", "selective"]
Loss = Literal["chunked", "liger", "full"]
Attention = Literal["flash", "sdpa", "eager"]
Sharding = Literal["none", "zero1", "zero2", "zero3", "fsdp"]
Offload = Literal["none", "cpu", "nvme"]
Sequence = Literal["none", "ulysses", "ring"]


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """A LoRA adapter in peft's words.

    `dtype_bytes` is 4 under peft's default (`autocast_adapter_dtype`), 2 for adapters in bf16.
    """

    r: int = 8
    target_modules: tuple[str, ...] | str = "all-linear"
    """Names as peft matches them; a single string is `all-linear` or a regular expression; () is peft's default for
    the architecture."""
    exclude_modules: tuple[str, ...] = ()
    modules_to_save: tuple[str, ...] = ()
    use_dora: bool = False
    dtype_bytes: int = 4


@dataclass(frozen=True, kw_only=True)
class Setup:
    """Everything beside the model's shape and the tokens of a row that decides on the memory of one device."""

    weights: Weights = "bfloat16"
    """How the weights of the model lie in memory (`nf4_double`: with double quantization)."""
    compute_bytes: int = 2
    """Bytes of an activation: 2 under bf16 or fp16 (`bf16=True` is autocast), 4 in full precision."""
    adapter: Adapter | None = None
    """The adapter, or None where all weights are trained."""
    rows: int = 1
    """Rows of one device's batch (`per_device_train_batch_size`)."""
    accumulation: int = 1
    """Batches whose gradients are summed before a step (`gradient_accumulation_steps`)."""
    checkpointing: Checkpointing = "full"
    every_n_layers: int = 1
    """Each n-th layer is checkpointed, the others keep their activations."""
    activation_offload: bool = False
    """Whether what checkpointing keeps lies in the host's memory."""
    loss: Loss = "chunked"
    """`chunked` is TRL's fused head (tiles of 4096 tokens by 32768 words), `liger` liger's fused loss, `full` builds
    every logit."""
    liger_layers: bool = False
    """Whether liger's kernels replace norm, rope and the feed-forward part."""
    mlp_tile: int | None = None
    """Tokens of one tile of the feed-forward part; None where it is not tiled."""
    attention: Attention = "sdpa"
    dense_mask: bool = False
    """Whether a tokens by tokens mask is built: sdpa with padding, or with packed rows."""
    optimizer: str = "adamw_torch_fused"
    """TRL's `optim`."""
    sharding: Sharding = "none"
    shards: int = 1
    """Devices over which the sharded states are divided; where none are, those that sum their gradients."""
    reshards: bool = True
    """Whether FSDP frees a layer's gathered weights after its forward pass (`reshard_after_forward`)."""
    offload_optimizer: Offload = "none"
    offload_param: Offload = "none"
    sequence: Sequence = "none"
    sequence_size: int = 1
    """Devices that share one row."""
