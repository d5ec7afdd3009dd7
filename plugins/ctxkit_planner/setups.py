"""A stage of a recipe in the words of the memory engine: what SFTConfig, peft, DeepSpeed and FSDP are told."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctxkit_planner.setup import Adapter, Attention, Checkpointing, Offload, Sequence, Setup, Sharding, Weights

if TYPE_CHECKING:
    from ctxkit.spec import PlannedStage

DEFAULT_OPTIMIZER = "adamw_torch_fused"
ZERO: tuple[Sharding, ...] = ("none", "zero1", "zero2", "zero3")
PLAIN: tuple[Weights, ...] = ("float32", "bfloat16", "float16")
FLASH = ("flash", "kernels-community", "ctxkit_varlen", "varlen", "flex")
"""How the names of attention backends begin or go that never build a tokens by tokens matrix."""


UNCOUNTED = (
    "rank_pattern",
    "layers_to_transform",
    "bias",
    "target_parameters",
    "trainable_token_indices",
)
"""Fields of peft's LoraConfig that change what is trained and are not counted."""


@dataclass(frozen=True)
class _Layout:
    """How the processes share the work."""

    sharding: Sharding = "none"
    shards: int = 1
    optimizer: Offload = "none"
    param: Offload = "none"
    reshards: bool = True


def setup_of(recipe: Mapping[str, Any], stage: PlannedStage, config: Mapping[str, Any], gpus: int) -> Setup:
    """Return how a stage is trained on so many GPUs; `config` is the model's, for its type of weights."""
    settings, model = stage.settings, recipe.get("model") or {}
    sequence, size = _sequence(settings)
    layout = _layout(settings, gpus)
    compute = 4 if _full_precision(settings, model) else 2
    attention = _attention(model)
    return Setup(
        weights=_weights(model, config),
        compute_bytes=compute,
        adapter=_adapter(stage.adapter, quantized=bool(_quantization(model, config))),
        rows=_number(settings, "per_device_train_batch_size", 8),
        accumulation=_number(settings, "gradient_accumulation_steps", 1),
        checkpointing=_checkpointing(settings),
        every_n_layers=_kwargs(settings).get("every_n_layers") or 1,
        activation_offload=bool(settings.get("activation_offloading") or _kwargs(settings).get("offload")),
        loss="chunked",
        liger_layers=bool(settings.get("use_liger_kernel")),
        mlp_tile=stage.mlp_tile_tokens,
        attention=attention,
        dense_mask=attention == "sdpa" and sequence == "none" and stage.document_mask,
        optimizer=str(settings.get("optim") or DEFAULT_OPTIMIZER),
        sharding=layout.sharding,
        shards=layout.shards,
        reshards=layout.reshards,
        offload_optimizer=layout.optimizer,
        offload_param=layout.param,
        sequence=sequence,
        sequence_size=size,
    )


def unread(recipe: Mapping[str, Any], config: Mapping[str, Any]) -> list[str]:
    """Return what of a recipe, and of its model's config, decides on memory and is not read here."""
    file = (recipe.get("launch") or {}).get("config_file")
    found = [f"launch.config_file ({file}) is not read: what it says of DeepSpeed or FSDP is not counted"]
    stored = _mapping(config.get("quantization_config"))
    method = stored.get("quant_method")
    known = not stored or stored.get("load_in_4bit") or stored.get("load_in_8bit")
    return [*(found if file else []), *([] if known else [f"weights stored as {method} are counted as whole ones"])]


def unread_of(stage: PlannedStage) -> list[str]:
    """Return what of a stage decides on memory and is not read here."""
    zero, file = _zero(stage.settings), stage.settings.get("deepspeed")
    adapter = stage.adapter or {}
    fields = [name for name in UNCOUNTED if adapter.get(name) not in (None, "none", (), [], {})]
    found = [f"adapter.{name} of stage {stage.name} is not counted" for name in fields]
    unknown = f"no ZeRO stage is read in train.deepspeed of stage {stage.name} ({file}): nothing of it is counted"
    return [*found, *([unknown] if isinstance(file, str) and "stage" not in zero else [])]


def _weights(model: Mapping[str, Any], config: Mapping[str, Any]) -> Weights:
    quantized = _quantization(model, config)
    if quantized.get("load_in_4bit"):
        return "nf4_double" if quantized.get("bnb_4bit_use_double_quant") else "nf4"
    if quantized.get("load_in_8bit"):
        return "int8"
    dtype = model.get("dtype") or "float32"
    if dtype == "auto":
        dtype = config.get("dtype") or config.get("torch_dtype") or "bfloat16"
    return next((known for known in PLAIN if known == dtype), "bfloat16")


def _quantization(model: Mapping[str, Any], config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return how the weights are quantized: as the recipe has it, or as they were stored."""
    return _mapping(model.get("quantization_config")) or _mapping(config.get("quantization_config"))


def _full_precision(settings: Mapping[str, Any], model: Mapping[str, Any]) -> bool:
    """Return whether activations are float32: neither autocast, which TRL turns on, nor weights of 16 bits."""
    bf16, fp16 = settings.get("bf16"), settings.get("fp16")
    mixed = bool(fp16) or (bf16 if bf16 is not None else True)
    return not mixed and model.get("dtype", "float32") == "float32"


def _adapter(adapter: Mapping[str, Any] | None, *, quantized: bool) -> Adapter | None:
    """Return the adapter, in bf16 where TRL makes it so: beside quantized weights."""
    if adapter is None:
        return None
    targets = adapter.get("target_modules") or ()
    return Adapter(
        r=int(adapter.get("r", 8)),
        target_modules=targets if isinstance(targets, str) else tuple(targets),
        exclude_modules=_names(adapter.get("exclude_modules")),
        modules_to_save=_names(adapter.get("modules_to_save")),
        use_dora=bool(adapter.get("use_dora")),
        dtype_bytes=2 if quantized else 4,
    )


def _names(value: object) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list | tuple) else ()


def _checkpointing(settings: Mapping[str, Any]) -> Checkpointing:
    """Return what is computed anew in the backward pass; FSDP has a switch of its own for it."""
    if bool(settings.get("fsdp")) and _mapping(settings.get("fsdp_config")).get("activation_checkpointing"):
        return "full"
    asked = settings.get("activation_checkpointing")
    asked = settings.get("gradient_checkpointing", True) if asked is None else asked
    if not asked:
        return "none"
    return "selective" if _kwargs(settings).get("selective") else "full"


def _kwargs(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    named = settings.get("activation_checkpointing_kwargs") or settings.get("gradient_checkpointing_kwargs")
    return _mapping(named)


def _attention(model: Mapping[str, Any]) -> Attention:
    name = str(model.get("attn_implementation") or "sdpa")
    if any(part in name for part in FLASH):
        return "flash"
    return "eager" if name == "eager" else "sdpa"


def _sequence(settings: Mapping[str, Any]) -> tuple[Sequence, int]:
    sizes = _mapping(settings.get("parallelism_config"))
    for name, kind in (("sp_size", "ulysses"), ("cp_size", "ring")):
        if (sizes.get(name) or 1) > 1:
            return kind, int(sizes[name])  # type: ignore[return-value]
    return "none", 1


def _layout(settings: Mapping[str, Any], gpus: int) -> _Layout:
    zero = _zero(settings)
    if "stage" in zero:
        offload = {part: _mapping(zero.get(f"offload_{part}")).get("device", "none") for part in ("optimizer", "param")}
        return _Layout(ZERO[zero["stage"]], gpus, offload["optimizer"], offload["param"])
    if settings.get("fsdp"):
        copies = int(_mapping(settings.get("parallelism_config")).get("dp_replicate_size") or 1)
        config = _mapping(settings.get("fsdp_config"))
        where: Offload = "cpu" if config.get("cpu_offload") else "none"
        reshards = config.get("reshard_after_forward") is not False
        return _Layout("fsdp", max(gpus // copies, 1), where, where, reshards)
    return _Layout(shards=gpus)


def _zero(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return DeepSpeed's `zero_optimization`; empty where its stage is none of ZeRO's."""
    zero = _mapping(_deepspeed(settings.get("deepspeed")).get("zero_optimization"))
    stage = zero.get("stage", 0)
    return {**zero, "stage": stage} if zero and type(stage) is int and 0 <= stage < len(ZERO) else {}


def _deepspeed(value: object) -> Mapping[str, Any]:
    """Return DeepSpeed's configuration, from the file where it is named; empty where that cannot be read."""
    if isinstance(value, str):
        try:
            return _mapping(json.loads(Path(value).read_text(encoding="utf-8")))
        except (OSError, ValueError):
            return {}
    return _mapping(value)


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _number(settings: Mapping[str, Any], name: str, default: int) -> int:
    value = settings.get(name)
    return value if type(value) is int and value > 0 else default
