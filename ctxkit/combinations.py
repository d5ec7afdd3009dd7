"""A stage as the rules of `compatibility.py` look at it, and what they ask of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctxkit.layouts import CHECKPOINTING, ENGINES, GATHER, STAGES, Layout, Setting, layout
from ctxkit.model_configs import find_config
from ctxkit.settings import sft_settings

if TYPE_CHECKING:
    from ctxkit.reading import Located
    from ctxkit.recipe import LaunchSection, Stage

FLASH = ("flash_attention", "kernels-community/flash", "paged|flash_attention")
"""How the names of attention backends begin that compute in 16 bits alone."""
SIZES = "parallelism_config"


@dataclass(frozen=True)
class Case:
    """A stage, and what the rules ask of it."""

    located: Located
    stage: Stage
    loaded: Mapping[str, Any] | None = None
    """The config of the loaded model, where there is one."""

    @cached_property
    def layout(self) -> Layout:
        """How its processes share the work."""
        return layout(self.located, self.stage)

    @cached_property
    def full(self) -> dict[str, Setting]:
        """What its SFTConfig gets, each with its origin."""
        return sft_settings(self.located, self.stage)

    @cached_property
    def settings(self) -> dict[str, Any]:
        """What its SFTConfig gets."""
        return {name: setting.value for name, setting in self.full.items()}

    @property
    def launch(self) -> LaunchSection:
        """The section of the recipe."""
        return self.located.recipe.launch

    @property
    def attention(self) -> str:
        """The attention backend; sdpa is what transformers takes for nearly all models."""
        return self.located.recipe.model.attn_implementation or "sdpa"

    @property
    def flash(self) -> bool:
        """Whether attention is a flash kernel."""
        return self.attention.startswith(FLASH)

    @property
    def documents(self) -> bool:
        """Whether packed rows hold documents that must not see one another."""
        packing = self.stage.data.packing
        return bool(packing and packing.document_mask)

    def on(self, *fields: str) -> bool:
        """Return whether a switch of SFTConfig, under any of its names, is stated and on."""
        return any(bool(self.settings.get(field)) for field in fields)

    def inside(self, field: str, key: str) -> Any:
        """Return a value in a mapping of SFTConfig."""
        mapping = self.settings.get(field)
        return mapping.get(key) if isinstance(mapping, Mapping) else None

    @cached_property
    def config(self) -> Mapping[str, Any]:
        """What is known of the model's config without the network; nothing, where it must be fetched."""
        if self.loaded is not None:
            return self.loaded
        recipe = self.located.recipe
        found = find_config(recipe.model, recipe.tokenizer, network=False).values or {}
        text = found.get("text_config")
        return text if isinstance(text, Mapping) else found

    def quantized(self, *bits: int) -> bool:
        """Return whether the weights are loaded in so many bits."""
        fields = self.located.recipe.model.quantization_config or {}
        return any(bool(fields.get(f"load_in_{count}bit")) for count in bits)


def taken(case: Case) -> int:
    """Return how many processes the sizes of a stage need a multiple of."""
    own = case.layout
    return own.per_row * own.dp_replicate


def wrong_size(case: Case) -> bool:
    """Return whether the sizes do not fit the number of processes."""
    shards, world = case.layout.dp_shard, case.launch.num_processes
    if shards is not None and not case.layout.sp > 1:
        return taken(case) * shards != world
    return bool(world % taken(case))


def heads(case: Case) -> bool:
    """Return whether sequence parallelism cannot divide the heads of the model."""
    sp, heads = case.layout.sp, case.config.get("num_attention_heads")
    kv = case.config.get("num_key_value_heads") or heads
    if sp == 1 or type(heads) is not int or type(kv) is not int or not kv:
        return False
    return bool(heads % sp) or bool(kv % sp and sp % kv)


def windows(case: Case) -> bool:
    """Return whether a layer of the model attends to a window alone."""
    config = case.config
    types = config.get("layer_types")
    if isinstance(types, list | tuple):
        return any(kind != "full_attention" for kind in types)
    return bool(config.get("sliding_window")) and config.get("use_sliding_window") is not False


def recurrent(case: Case) -> bool:
    """Return whether a layer of the model has a recurrent state."""
    return any("linear_attention" in str(kind) for kind in case.config.get("layer_types") or ())


def unpadded(case: Case) -> bool:
    """Return whether rows are not padded to the length of the longest."""
    multiple = case.settings.get("pad_to_multiple_of")
    return type(multiple) is not int or bool(multiple % case.stage.data.row_length)


def integer_storage(case: Case) -> bool:
    """Return whether four-bit weights are packed in integers."""
    fields = case.located.recipe.model.quantization_config or {}
    return case.quantized(4) and fields.get("bnb_4bit_quant_storage") not in ("bfloat16", "float16", "float32")


def sharded(layout: Layout) -> bool:
    """Return whether processes share the weights."""
    return layout.zero == 3 or layout.fsdp


def carries_shards(case: Case) -> bool:
    """Return whether an optimizer is carried on that was or will be in shards."""
    parent = case.located.recipe.parent(case.stage)
    if case.stage.optimizer != "carry" or parent is None:
        return False
    return any(each.fsdp or each.deepspeed for each in (layout(case.located, parent), case.layout))


def offload_for_nothing(case: Case) -> bool:
    """Return whether an offload is stated that no stage has a named ZeRO for."""
    wanted = (case.launch.offload_optimizer_device, case.launch.offload_param_device)
    if not any(device not in (None, "none") for device in wanted):
        return False
    named = [each.train.get("deepspeed", case.launch.deepspeed) for each in case.located.recipe.stages]
    return not any(isinstance(name, str) and name in STAGES for name in named)


def fsdp_for_nothing(case: Case) -> bool:
    """Return whether fields for FSDP are stated that nothing reads; with accelerate's file they change its plugin."""
    if case.layout.fsdp or case.launch.config_file or not case.settings.get("fsdp_config"):
        return False
    return "fsdp_config" in case.stage.train or not any(
        layout(case.located, each).fsdp for each in case.located.recipe.stages
    )


def float_flash(case: Case) -> bool:
    """Return whether flash attention would be asked to compute in 32 bits."""
    halved = case.settings.get("bf16") is not False or case.on("fp16")
    return case.flash and case.located.recipe.model.dtype == "float32" and not halved


def nvme(case: Case) -> bool:
    """Return whether an offload to NVMe lacks its path or ZeRO-3."""
    launch = case.launch
    pairs = (
        (launch.offload_optimizer_device, launch.offload_optimizer_nvme_path),
        (launch.offload_param_device, launch.offload_param_nvme_path),
    )
    return any(device == "nvme" and (not path or case.layout.zero != 3) for device, path in pairs)


def said_twice(case: Case) -> bool:
    """Return whether accelerate's file, where it is there to be read, has an engine as the recipe has."""
    if not (case.launch.config_file and case.on(*ENGINES, SIZES)):
        return False
    try:
        text = Path(case.launch.config_file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False
    return re.search(r"^(deepspeed|fsdp|parallelism)_config:", text, re.MULTILINE) is not None


def gathers_nothing(case: Case) -> bool:
    """Return whether ZeRO-3 is told to save no whole weights."""
    zero = case.inside("deepspeed", "zero_optimization")
    return case.layout.zero == 3 and isinstance(zero, Mapping) and zero.get(GATHER) is False


def twice(case: Case) -> bool:
    """Return whether activations are checkpointed by FSDP and by the model."""
    own = case.inside("fsdp_config", "activation_checkpointing")
    return case.layout.fsdp and bool(own) and case.on(*CHECKPOINTING)


def selective(case: Case) -> bool:
    """Return whether checkpointing keeps the outputs of attention."""
    return any(case.inside(f"{field}_kwargs", "selective") for field in CHECKPOINTING)


def listed(value: Any) -> list[str]:
    """Return names that are stated as one, or as a list."""
    return [value] if isinstance(value, str) else [str(item) for item in value or ()]
