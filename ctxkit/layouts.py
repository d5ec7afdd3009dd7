"""The parallel layout of a stage: what `launch` and the stage's `train` come to as fields of SFTConfig."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctxkit.recipe import ParallelismSection

if TYPE_CHECKING:
    from ctxkit.reading import Located
    from ctxkit.recipe import LaunchSection, Stage

STAGES = {"zero1": 1, "zero2": 2, "zero3": 3}
"""What the short names of DeepSpeed's layouts mean."""
GATHER = "stage3_gather_16bit_weights_on_model_save"
"""The key of DeepSpeed without which ZeRO-3 saves no whole model."""
ENGINES = ("deepspeed", "fsdp")
CHECKPOINTING = ("activation_checkpointing", "gradient_checkpointing")
"""The names of SFTConfig for keeping no activations of a layer but its input."""


@dataclass(frozen=True)
class Setting:
    """A value with the reason it is there."""

    value: Any
    origin: str
    """A place in a file, a `--set`, or what in the recipe it follows from."""


@dataclass(frozen=True)
class Layout:
    """How the processes of a stage share its work, as far as the recipe says it."""

    zero: int = 0
    """The stage of DeepSpeed's ZeRO; 0 without DeepSpeed, or where its file cannot be read."""
    deepspeed: bool = False
    fsdp: bool = False
    sp: int = 1
    """Processes that share a row by sequence parallelism."""
    cp: int = 1
    """Processes that share a row by context parallelism."""
    tp: int = 1
    dp_replicate: int = 1
    dp_shard: int | None = None

    @property
    def per_row(self) -> int:
        """Processes that see the same row."""
        return self.sp * self.cp * self.tp


def layout(located: Located, stage: Stage) -> Layout:
    """Return the layout of a stage."""
    settings = layout_settings(located, stage)
    sizes = _plain(_value(settings, "parallelism_config")) or {}
    deepspeed, fsdp = _value(settings, "deepspeed"), _value(settings, "fsdp")
    return Layout(
        zero=zero_stage(deepspeed),
        deepspeed=deepspeed is not None,
        fsdp=bool(fsdp),
        dp_shard=_size(sizes, "dp_shard_size", None),
        **{name: _size(sizes, f"{name}_size", 1) for name in ("sp", "cp", "tp", "dp_replicate")},
    )


def layout_settings(located: Located, stage: Stage) -> dict[str, Setting]:
    """Return the fields of SFTConfig that say how processes share the work of a stage.

    `train` of a stage comes before `launch`: an engine that it states takes the place of that of `launch`, and so does
    its `parallelism_config`.
    """
    launch = located.recipe.launch
    made = {**_from_launch(located, stage), **_from_train(located, stage)}
    if "deepspeed" in made:
        named = made["deepspeed"]
        made["deepspeed"] = Setting(zero_config(named.value, launch), named.origin)
    if "parallelism_config" in made:
        made |= _spread(located, stage, made["parallelism_config"])
    return {**_checkpointing(stage, made), **made}


def _checkpointing(stage: Stage, made: Mapping[str, Setting]) -> dict[str, Setting]:
    """Turn off the checkpointing of the model, TRL's default, where FSDP brings its own."""
    config = _value(made, "fsdp_config") if _value(made, "fsdp") else None
    own = isinstance(config, Mapping) and (config.get("activation_checkpointing"))
    if not own or any(field in stage.train for field in CHECKPOINTING):
        return {}
    origin = "follows from fsdp_config.activation_checkpointing: FSDP's own, which spares a gather"
    return {CHECKPOINTING[0]: Setting(value=False, origin=origin)}


def _from_launch(located: Located, stage: Stage) -> dict[str, Setting]:
    launch, fields = located.recipe.launch, ["parallelism_config"]
    if not any(engine in stage.train for engine in ENGINES):
        fields += [*ENGINES, "fsdp_config"]
    stated = {field: getattr(launch, field) for field in fields if field not in stage.train}
    origins = {field: str(located.head.nearest(("launch", field))[0].origin) for field in stated}
    return {field: Setting(_plain(value), origins[field]) for field, value in stated.items() if value}


def _from_train(located: Located, stage: Stage) -> dict[str, Setting]:
    tree, fields = located.stages[stage.name], (*ENGINES, "fsdp_config", "parallelism_config")
    return {
        field: Setting(stage.train[field], str(tree.nearest(("train", field))[0].origin))
        for field in fields
        if field in stage.train
    }


def zero_config(value: Any, launch: LaunchSection) -> Any:
    """Return DeepSpeed's own configuration for a short name, or a mapping with what saving a whole model needs.

    Batch sizes, clipping and precision are `auto`: transformers fills in those of SFTConfig. A path stays a path.
    """
    if isinstance(value, str) and value in STAGES:
        zero: dict[str, Any] = {"stage": STAGES[value], "overlap_comm": True, "contiguous_gradients": True}
        for part in ("optimizer", "param"):
            zero |= _offload(launch, part)
        value = {"zero_optimization": zero, **_AUTO}
    if zero_stage(value) == 3 and isinstance(value, Mapping):
        return {**value, "zero_optimization": {GATHER: True, **value["zero_optimization"]}}
    return value


def zero_stage(value: Any) -> int:
    """Return the stage of ZeRO that a `deepspeed` setting means; 0 where it cannot be told without DeepSpeed."""
    config = _read(value) if isinstance(value, str) else value
    zero = config.get("zero_optimization") if isinstance(config, Mapping) else None
    stage = zero.get("stage", 0) if isinstance(zero, Mapping) else 0
    return stage if type(stage) is int else 0


def _read(file: str) -> Any:
    try:
        return json.loads(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _offload(launch: LaunchSection, part: str) -> dict[str, Any]:
    device = getattr(launch, f"offload_{part}_device")
    if device in (None, "none"):
        return {}
    path = {"nvme_path": getattr(launch, f"offload_{part}_nvme_path")} if device == "nvme" else {}
    return {f"offload_{part}": {"device": device, "pin_memory": True, **path}}


def _spread(located: Located, stage: Stage, stated: Setting) -> dict[str, Setting]:
    """Return a parallelism_config with what follows from the model, and rows that can be shared evenly."""
    sizes = _plain(stated.value)
    if not isinstance(sizes, Mapping):
        return {}
    made: dict[str, Setting] = {}
    sp, cp = _size(sizes, "sp_size", 1), _size(sizes, "cp_size", 1)
    if sp > 1:
        attention = {"sp_attn_implementation": located.recipe.model.attn_implementation or "sdpa"}
        sizes = {**sizes, "sp_handler": {**attention, **(sizes.get("sp_handler") or {})}}
    multiple = stage.data.row_length if sp > 1 else 2 * cp
    if multiple > 2 and "pad_to_multiple_of" not in stage.train:
        reason = "sp_size: every process shares rows of one length" if sp > 1 else "cp_size: rows are shared evenly"
        made["pad_to_multiple_of"] = Setting(multiple, f"follows from parallelism_config.{reason}")
    return {**made, "parallelism_config": Setting(sizes, stated.origin)}


def _plain(value: Any) -> Any:
    return value.model_dump(exclude_none=True) if isinstance(value, ParallelismSection) else value


def _value(settings: Mapping[str, Setting], name: str) -> Any:
    return settings[name].value if name in settings else None


def _size(sizes: Any, name: str, default: Any) -> Any:
    size = sizes.get(name) if isinstance(sizes, Mapping) else None
    return size if type(size) is int and size > 0 else default


_AUTO = {
    "bf16": {"enabled": "auto"},
    "fp16": {"enabled": "auto"},
    "gradient_clipping": "auto",
    "gradient_accumulation_steps": "auto",
    "train_batch_size": "auto",
    "train_micro_batch_size_per_gpu": "auto",
}
