"""What can be changed about a stage so that it needs less memory: each change with what it writes into the recipe."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ctxkit_planner.setup import Adapter

if TYPE_CHECKING:
    from ctxkit_planner.setup import Setup
    from ctxkit_planner.stages import StagePlan

LORA = Adapter(r=16, target_modules="all-linear")
TILE = 4096
"""Tokens of a tile, the default of the patch `tiled_mlp`."""
QUANTIZED = ("nf4", "nf4_double", "int8")
SPREAD = ("fsdp", "zero3")


@dataclass(frozen=True)
class Changed:
    """A stage after a change."""

    plan: StagePlan
    names: tuple[str, ...]
    """What was changed, in words."""
    write: Mapping[str, Any]
    """What the recipe then says, by section."""
    price: tuple[str, ...] = ()
    """What it costs beside time and memory."""
    alters: bool = False
    """Whether another model is trained: with fewer trained weights, or in another precision."""


Change = Callable[["StagePlan"], Changed | None]
"""Makes one change, or returns None where it is not possible, not allowed, or made already."""


def one_row(plan: StagePlan) -> Changed | None:
    """Take one row at a time, and as many batches more before a step."""
    setup = plan.setup
    if setup.rows == 1:
        return None
    times = setup.rows * setup.accumulation
    less = replace(setup, rows=1, accumulation=times)
    train = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": times}
    return _changed(plan, less, "one row at a time", {"train": train})


def no_dense_mask(plan: StagePlan) -> Changed | None:
    """Take an attention backend that needs no tokens by tokens mask."""
    setup = plan.setup
    if setup.compute_bytes == 4 or (not setup.dense_mask and setup.attention != "eager"):
        return None
    less = replace(setup, attention="flash", dense_mask=False)
    return _changed(plan, less, "flash attention", {"model": {"attn_implementation": "flash_attention_2"}})


def checkpointing(plan: StagePlan) -> Changed | None:
    """Keep the inputs of the layers alone, and compute the rest anew."""
    setup = plan.setup
    if setup.checkpointing == "full" and setup.every_n_layers == 1:
        return None
    less = replace(setup, checkpointing="full", every_n_layers=1)
    names = ("activation_checkpointing_kwargs", "gradient_checkpointing_kwargs")
    write = _merged(_checkpointed(plan), {"train": {name: None for name in names if plan.train.get(name)}})
    return _changed(plan, less, "activation checkpointing", write)


def tiled_mlp(plan: StagePlan) -> Changed | None:
    """Compute the feed-forward parts over tiles of tokens."""
    setup = plan.setup
    short = plan.tokens * setup.rows // setup.sequence_size <= TILE
    if setup.mlp_tile is not None or short or plan.shape.experts:
        return None
    patches = [*plan.patches, {"kind": "tiled_mlp", "tile": TILE}]
    return _changed(plan, replace(setup, mlp_tile=TILE), "tiled MLP", {"patches": patches})


def activation_offload(plan: StagePlan) -> Changed | None:
    """Keep the inputs of the layers in the memory of the host."""
    if plan.setup.activation_offload or plan.setup.checkpointing == "none":
        return None
    less = replace(plan.setup, activation_offload=True)
    return _changed(plan, less, "activation offload", {"train": {"activation_offloading": True}})


def eight_bit_optimizer(plan: StagePlan) -> Changed | None:
    """Keep Adam's moments in 8 bits; bitsandbytes knows no spread weights."""
    setup = plan.setup
    if "8bit" in setup.optimizer or "adamw" not in setup.optimizer or setup.sharding != "none":
        return None
    less = replace(setup, optimizer="adamw_8bit")
    return _changed(plan, less, "8-bit optimizer", {"train": {"optim": "adamw_8bit"}})


def bfloat16_weights(plan: StagePlan) -> Changed | None:
    """Hold the weights in 16 bits."""
    setup = plan.setup
    if setup.weights != "float32":
        return None
    alters = setup.adapter is None
    price = ("weights of 16 bits lose small updates",) if alters else ()
    less = replace(setup, weights="bfloat16", compute_bytes=2)
    made = _changed(plan, less, "bf16 weights", {"model": {"dtype": "bfloat16"}}, price)
    return replace(made, alters=alters)


def lora(plan: StagePlan) -> Changed | None:
    """Train an adapter beside frozen 16-bit weights; under ZeRO-3 it wants checkpoints that are not selective."""
    setup = plan.setup
    if setup.adapter is not None or plan.fresh or (setup.checkpointing, setup.sharding) == ("selective", "zero3"):
        return None
    weights = setup.weights if setup.weights != "float32" else "bfloat16"
    less = replace(setup, adapter=LORA, weights=weights, compute_bytes=2)
    write = {"model": {"dtype": weights}, "adapter": _ADAPTER}
    return replace(_changed(plan, less, "LoRA", write, ("trains an adapter alone",)), alters=True)


def qlora(plan: StagePlan) -> Changed | None:
    """Train an adapter beside four-bit weights, each GPU with all of them."""
    setup = plan.setup
    if setup.weights in QUANTIZED or plan.fresh or setup.sequence != "none" or not plan.alone:
        return None
    less = replace(
        setup,
        weights="nf4_double",
        compute_bytes=2,
        adapter=replace(setup.adapter or LORA, dtype_bytes=2),
        sharding="none",
        shards=plan.machines.gpus,
        offload_optimizer="none",
        offload_param="none",
    )
    four_bit = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": "bfloat16"}
    four_bit["bnb_4bit_use_double_quant"] = True
    write: dict[str, Any] = {"model": {"dtype": "bfloat16", "quantization_config": four_bit}}
    if setup.adapter is None:
        write["adapter"] = _ADAPTER
    if setup.sharding != "none":
        write = _merged(write, _engine(plan, {"fsdp": False, "fsdp_config": None, "deepspeed": None}))
        write = _merged(write, _own_checkpointing(setup))
    write = _merged(write, _nothing_on_the_host(plan))
    return replace(_changed(plan, less, "QLoRA", write, ("trains an adapter beside 4-bit weights",)), alters=True)


def fsdp(plan: StagePlan) -> Changed | None:
    """Spread weights, gradients and optimizer over all GPUs by FSDP2."""
    setup, gpus = plan.setup, plan.machines.gpus
    if gpus == 1 or setup.sharding != "none" or not _spreadable(plan):
        return None
    fields: dict[str, Any] = {"fsdp": True}
    write = _engine(plan, fields)
    if setup.checkpointing != "none":
        write = _engine(plan, {**fields, "fsdp_config": {"activation_checkpointing": True}})
        write = _merged(write, {"train": dict.fromkeys(_switches(plan), False)})
    return _changed(plan, replace(setup, sharding="fsdp", shards=gpus), "FSDP over all GPUs", write)


def zero3(plan: StagePlan) -> Changed | None:
    """Spread weights, gradients and optimizer over all GPUs by DeepSpeed's ZeRO-3."""
    setup, gpus = plan.setup, plan.machines.gpus
    if gpus == 1 or setup.sharding in SPREAD or not _spreadable(plan):
        return None
    return _changed(plan, _as_zero3(setup, gpus), "ZeRO-3 over all GPUs", _zero3_written(plan))


def optimizer_offload(plan: StagePlan) -> Changed | None:
    """Keep the optimizer's state in the memory of the host, and update there; FSDP takes the weights along."""
    setup, gpus = plan.setup, plan.machines.gpus
    if setup.offload_optimizer != "none" or not _spreadable(plan):
        return None
    if setup.sharding == "fsdp":
        less = replace(setup, offload_optimizer="cpu", offload_param="cpu")
        write = _engine(plan, {"fsdp_config": {**_fsdp_config(plan), "cpu_offload": True}})
        return _changed(plan, less, "offload of optimizer and weights", write)
    less = replace(_as_zero3(setup, gpus), offload_optimizer="cpu")
    write = _merged(_zero3_written(plan), {"launch": {"offload_optimizer_device": "cpu"}})
    return _changed(plan, less, "optimizer offload", write)


def weight_offload(plan: StagePlan) -> Changed | None:
    """Keep the weights that are not in use in the memory of the host too (ZeRO-3)."""
    setup = plan.setup
    if setup.sharding != "zero3" or setup.offload_optimizer == "none" or setup.offload_param != "none":
        return None
    less = replace(setup, offload_param="cpu")
    return _changed(plan, less, "weight offload", {"launch": {"offload_param_device": "cpu"}})


def sequence_parallel(size: int) -> Change:
    """Return the change that spreads each row over so many GPUs by Ulysses: heads for tokens; it needs ZeRO-3."""

    def change(plan: StagePlan) -> Changed | None:
        setup, gpus = plan.setup, plan.machines.gpus
        if gpus % size or setup.sequence == "ring" or setup.sequence_size >= size or not _exchangeable(plan, size):
            return None
        spread = setup if setup.sharding == "zero3" else _as_zero3(setup, gpus)
        times = setup.accumulation * size // setup.sequence_size
        less = replace(spread, sequence="ulysses", sequence_size=size, accumulation=times, dense_mask=False)
        write = {} if setup.sharding == "zero3" else _zero3_written(plan)
        sizes = {**dict.fromkeys(_sizes_of_fsdp(plan)), "sp_size": size}
        write = _merged(write, _engine(plan, {"parallelism_config": sizes}))
        write = _merged(write, {"train": {"gradient_accumulation_steps": times}})
        if plan.stage.document_mask and setup.attention != "flash":
            # Of the others none tells the documents of a row apart here.
            less = replace(less, attention="flash")
            write = _merged(write, {"model": {"attn_implementation": "flash_attention_2"}})
        return _changed(plan, less, f"sequence parallel over {size} GPUs", write)

    return change


def more_gpus(times: int) -> Change:
    """Return the change that takes so many times the GPUs, where what they hold is spread over them."""

    def change(plan: StagePlan) -> Changed | None:
        setup, gpus = plan.setup, plan.machines.gpus * times
        if setup.sharding not in SPREAD:
            return None
        before, after = (max(count // setup.sequence_size, 1) for count in (plan.machines.gpus, gpus))
        more = after // before
        accumulation = setup.accumulation if setup.accumulation % more else setup.accumulation // more
        price = (f"a step sees {more} times the tokens",) if setup.accumulation % more else ()
        less = replace(setup, shards=setup.shards * times, accumulation=accumulation)
        write: dict[str, Any] = {"launch": {"num_processes": gpus}}
        if accumulation != setup.accumulation:
            write["train"] = {"gradient_accumulation_steps": accumulation}
        shards = (plan.stage.settings.get("parallelism_config") or {}).get("dp_shard_size")
        if shards:
            write = _merged(write, _engine(plan, {"parallelism_config": {"dp_shard_size": shards * times}}))
        wider = replace(plan, machines=replace(plan.machines, gpus=gpus))
        return _changed(wider, less, f"{gpus} GPUs", write, price)

    return change


def joined(first: Changed, then: Changed) -> Changed:
    """Return two changes as one; `then` was made on top of the first."""
    return Changed(
        then.plan,
        (*first.names, *then.names),
        _merged(first.write, then.write),
        (*first.price, *then.price),
        first.alters or then.alters,
    )


def _changed(
    plan: StagePlan, setup: Setup, name: str, write: Mapping[str, Any], price: tuple[str, ...] = ()
) -> Changed:
    return Changed(replace(plan, setup=setup), (name,), write, price)


def _as_zero3(setup: Setup, gpus: int) -> Setup:
    param = setup.offload_param if setup.sharding == "fsdp" else "none"
    return replace(setup, sharding="zero3", shards=gpus, offload_param=param)


def _zero3_written(plan: StagePlan) -> dict[str, Any]:
    fields: dict[str, Any] = {"deepspeed": "zero3"}
    if plan.setup.sharding != "fsdp":
        return _engine(plan, fields)
    write = _merged(_engine(plan, {"fsdp": False, "fsdp_config": None, **fields}), _own_checkpointing(plan.setup))
    if plan.setup.offload_param == "none":
        return write
    # What FSDP kept on the host, ZeRO-3 keeps there under names of its own.
    return _merged(write, {"launch": {"offload_optimizer_device": "cpu", "offload_param_device": "cpu"}})


def _engine(plan: StagePlan, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return where an engine is written: in `launch`; for one stage of several, or where it is, in `train`."""
    return {"launch" if plan.alone and not plan.engine_in_train else "train": dict(fields)}


def _spreadable(plan: StagePlan) -> bool:
    """Return whether weights can be spread: not quantized ones, nor where an optimizer is carried between stages."""
    return plan.setup.weights not in QUANTIZED and not plan.carries


def _exchangeable(plan: StagePlan, size: int) -> bool:
    """Return whether DeepSpeed can exchange heads for tokens between GPUs, by the rules of `ctxkit validate`."""
    shape, stage = plan.shape, plan.stage
    heads = shape.heads % size == 0 and (shape.kv_heads % size == 0 or size % shape.kv_heads == 0)
    loss = stage.settings.get("loss_type") == "dft" or bool(stage.settings.get("label_smoothing_factor"))
    skips = stage.positions_skip and plan.setup.attention == "flash"
    even = heads and stage.row_length % size == 0
    documents = stage.document_mask and (plan.setup.rows > 1 or plan.setup.compute_bytes == 4)
    refused = loss or skips or documents or plan.setup.attention == "eager"
    return even and not refused and _spreadable(plan)


def _fsdp_config(plan: StagePlan) -> dict[str, Any]:
    return dict(plan.stage.settings.get("fsdp_config") or {})


def _checkpointed(plan: StagePlan) -> dict[str, Any]:
    if plan.setup.sharding != "fsdp":
        return {"train": {"activation_checkpointing": True}}
    config = {**_fsdp_config(plan), "activation_checkpointing": True}
    return _merged(_engine(plan, {"fsdp_config": config}), {"train": {"activation_checkpointing": False}})


def _sizes_of_fsdp(plan: StagePlan) -> list[str]:
    """Return what `parallelism_config` says of copies and shards, which DeepSpeed has no use for."""
    sizes = plan.stage.settings.get("parallelism_config") or {}
    return [name for name in ("dp_replicate_size", "dp_shard_size") if sizes.get(name)]


def _switches(plan: StagePlan) -> list[str]:
    """Return under which names the model's own checkpointing is on, to be turned off."""
    older = "gradient_checkpointing"
    return ["activation_checkpointing", *([older] if plan.train.get(older) else [])]


def _nothing_on_the_host(plan: StagePlan) -> dict[str, Any]:
    """Return what takes DeepSpeed's offload out of `launch`, where it would stand without DeepSpeed."""
    named = [key for key in _OFFLOADS if plan.launch.get(key)]
    return {"launch": dict.fromkeys(named)} if named else {}


def _own_checkpointing(setup: Setup) -> dict[str, Any]:
    """Return what turns the model's own checkpointing on, where FSDP did it."""
    fsdp = setup.sharding == "fsdp" and setup.checkpointing != "none"
    return {"train": {"activation_checkpointing": True}} if fsdp else {}


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        under = merged.get(key)
        both = isinstance(value, Mapping) and isinstance(under, Mapping)
        merged[key] = _merged(under, value) if both else value  # type: ignore[arg-type]
    return merged


_OFFLOADS = tuple(f"offload_{part}_{how}" for part in ("optimizer", "param") for how in ("device", "nvme_path"))
_ADAPTER = {"r": 16, "lora_alpha": 32, "target_modules": "all-linear"}
CHANGES: tuple[tuple[Change, ...], ...] = (
    (one_row,),
    (no_dense_mask,),
    (checkpointing,),
    (activation_offload,),
    (tiled_mlp,),
    (eight_bit_optimizer,),
    (fsdp,),
    (zero3,),
    (optimizer_offload,),
    (weight_offload,),
    tuple(sequence_parallel(size) for size in (2, 4, 8, 16, 32, 64)),
    tuple(more_gpus(times) for times in (2, 4, 8)),
    (bfloat16_weights,),
    (lora,),
    (qlora,),
)
"""In the order in which they are made where several are; of those in one group one is made, the milder ones first."""
