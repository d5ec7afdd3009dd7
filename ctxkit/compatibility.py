"""What cannot be combined, as a table: packing, attention, parallel layout, loss, adapter and quantization.

The libraries find most of it out late, some in the middle of a step and some never. Each rule says by what it was
found: `ran`, by the library's own behaviour on CPU processes, or `read`, in its source, file and function named.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from ctxkit.combinations import (
    SIZES,
    Case,
    carries_shards,
    float_flash,
    fsdp_for_nothing,
    gathers_nothing,
    heads,
    integer_storage,
    listed,
    nvme,
    offload_for_nothing,
    recurrent,
    said_twice,
    selective,
    sharded,
    twice,
    unpadded,
    windows,
    wrong_size,
)
from ctxkit.layouts import CHECKPOINTING, GATHER
from ctxkit.recipe import ParallelismSection
from ctxkit.settings import effective

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ctxkit.errors import Fault
    from ctxkit.reading import Located
    from ctxkit.recipe import Stage


@dataclass(frozen=True)
class Rule:
    """One combination that is refused, or only said."""

    name: str
    path: tuple[str, ...]
    """The key to change, without `train` or `launch` before it where it may stand in either."""
    applies: Callable[[Case], bool]
    what: str
    """What is combined; for the documentation."""
    reason: str
    hint: str
    found: str
    """`ran` and what was seen, or `read` and where."""
    note: bool = False
    """Whether it is only said."""


def incompatible(located: Located, stage: Stage, loaded: Mapping[str, Any] | None = None) -> Iterator[Fault]:
    """Yield what a stage combines and cannot; `loaded` is the config of its model where that is known."""
    yield from _misspelt(located, stage)
    case = Case(located, stage, loaded)
    yield from (_fault(case, rule) for rule in RULES if not rule.note and rule.applies(case))


def notable(located: Located, stage: Stage) -> Iterator[Fault]:
    """Yield what a stage combines that works otherwise than one may think."""
    case = Case(located, stage)
    yield from (_fault(case, rule) for rule in RULES if rule.note and rule.applies(case))


def _fault(case: Case, rule: Rule) -> Fault:
    located, name = case.located, case.stage.name
    head = rule.path[0]
    if head in ("model", "launch"):
        return located.fault(None, rule.path, rule.reason, rule.hint)
    if head in ("data", "adapter", "optimizer"):
        return located.fault(name, rule.path, rule.reason, rule.hint)
    if head in case.stage.train:
        return located.fault(name, ("train", *rule.path), rule.reason, rule.hint)
    section = ("launch", *rule.path) if head in case.launch.model_fields_set else ("train", *rule.path)
    return located.fault(None if section[0] == "launch" else name, section, rule.reason, rule.hint)


def _misspelt(located: Located, stage: Stage) -> Iterator[Fault]:
    """Judge a `parallelism_config` in `train` as that of `launch` is judged."""
    fields = stage.train.get("parallelism_config")
    try:
        ParallelismSection.model_validate(fields or {})
    except ValidationError as error:
        known = ", ".join(ParallelismSection.model_fields)
        for details in error.errors():
            path = ("train", "parallelism_config", *details["loc"])
            message = "ParallelismConfig has no such field" if "extra" in details["type"] else details["msg"]
            yield located.fault(stage.name, path, message, f"it takes {known}")


SP, CP = (SIZES, "sp_size"), (SIZES, "cp_size")
RULES: tuple[Rule, ...] = (
    Rule(
        "sp-zero",
        SP,
        lambda case: case.layout.sp > 1 and case.layout.zero != 3,
        "sequence parallel without ZeRO-3",
        "sequence parallelism needs ZeRO-3: with another stage the gradients become sp_size times too large",
        "write `deepspeed: zero3`",
        "ran on two gloo processes: with ZeRO-2 the gradient norm is twice that of one process",
    ),
    Rule(
        "sp-document-mask",
        ("data", "packing", "document_mask"),
        lambda case: case.layout.sp > 1 and case.documents and not case.flash,
        "sequence parallel x packed rows with a document mask x any attention but flash",
        "sequence parallelism drops every mask, and only flash attention tells documents apart by their positions",
        "write `document_mask: false`, or `attn_implementation: flash_attention_2`",
        "read: deepspeed ulysses_sp.py uattn_wrapper",
    ),
    Rule(
        "sp-document-batch",
        ("per_device_train_batch_size",),
        lambda case: case.layout.sp > 1 and case.documents and effective(case.full, "per_device_train_batch_size") != 1,
        "sequence parallel x packed rows with a document mask x several rows a batch",
        "flash attention tells documents apart in batches of one row alone",
        "write `per_device_train_batch_size: 1`, and more gradient_accumulation_steps",
        "read: transformers modeling_flash_attention_utils.py _is_packed_sequence",
    ),
    Rule(
        "sp-padding-free",
        ("padding_free",),
        lambda case: case.layout.sp > 1 and case.on("padding_free"),
        "sequence parallel x padding_free",
        "TRL's batches without padding hold lengths that DeepSpeed's adapter cannot share out (IndexError)",
        "leave it out; `packing` of the data section fills rows",
        "ran on two gloo processes; deepspeed ulysses_sp.py UlyssesSPDataLoaderAdapter.refill reads shape[1] of all",
    ),
    Rule(
        "sp-rows",
        ("pad_to_multiple_of",),
        lambda case: case.layout.sp > 1 and unpadded(case),
        "sequence parallel x rows of unequal length",
        "processes exchange their rows, which must all have one length",
        "leave it out: rows are padded to the longest",
        "ran on two gloo processes: `invalid tensor size` in allgather",
    ),
    Rule(
        "sp-length",
        SP,
        lambda case: case.layout.sp > 1 and bool(case.stage.data.row_length % case.layout.sp),
        "sequence parallel x a row that it cannot divide",
        "the tokens of a row must be a multiple of it",
        "change the length of the chunker, or sp_size",
        "read: deepspeed ulysses_sp.py UlyssesSPDataLoaderAdapter.refill",
    ),
    Rule(
        "sp-attention",
        ("model", "attn_implementation"),
        lambda case: case.layout.sp > 1 and not (case.flash or case.attention == "sdpa"),
        "sequence parallel x eager or flex attention",
        "sequence parallelism has no way for the masks of this attention backend",
        "choose sdpa or flash_attention_2",
        "read: accelerate dataclasses.py DeepSpeedSequenceParallelConfig.__post_init__",
    ),
    Rule(
        "sp-other-attention",
        (SIZES, "sp_handler", "sp_attn_implementation"),
        lambda case: (
            case.layout.sp > 1
            and (case.inside(SIZES, "sp_handler") or {}).get("sp_attn_implementation") != case.attention
        ),
        "sequence parallel x another attention backend than the model's",
        "is not the attention backend of the model, so its attention would see parts of rows alone",
        "leave it out",
        "read: deepspeed ulysses_sp.py UlyssesSPAttentionHF.register_with_transformers",
    ),
    Rule(
        "sp-heads",
        SP,
        heads,
        "sequence parallel x heads that it cannot divide",
        "the attention heads must be a multiple of it, and the key heads a multiple or a divisor",
        "choose a divisor of the model's num_attention_heads",
        "read: deepspeed ulysses_sp.py UlyssesSPAttentionHF.__init__",
    ),
    Rule(
        "sp-recurrent",
        SP,
        lambda case: case.layout.sp > 1 and recurrent(case),
        "sequence parallel x linear attention",
        "layers with a recurrent state would begin anew in every process",
        "leave it out for this model",
        "read: accelerate big_modeling.py _refuse_recurrent_layers_under_sequence_parallelism",
    ),
    Rule(
        "sp-skips",
        SP,
        lambda case: case.layout.sp > 1 and case.flash and case.stage.data.skips,
        "sequence parallel x flash attention x positions that skip",
        "the mask is dropped, and flash attention takes each jump for the border of a document",
        "choose sdpa, or another chunker",
        "read: deepspeed ulysses_sp.py uattn_wrapper; transformers modeling_flash_attention_utils.py",
    ),
    Rule(
        "sp-loss",
        ("loss_type",),
        lambda case: (
            case.layout.sp > 1 and (case.settings.get("loss_type") == "dft" or case.on("label_smoothing_factor"))
        ),
        "sequence parallel x dft loss or label smoothing",
        "under sequence parallelism the loss is the model's own, without dft and label smoothing",
        "leave loss_type and label_smoothing_factor out",
        "read: trl sft_trainer.py SFTTrainer.__init__",
    ),
    Rule(
        "sp-cp",
        CP,
        lambda case: case.layout.sp > 1 and case.layout.cp > 1,
        "sequence parallel x context parallel",
        "a row is shared by sequence or by context parallelism, never by both",
        "keep one of sp_size and cp_size",
        "read: accelerate parallelism_config.py ParallelismConfig.__post_init__",
    ),
    Rule(
        "cp-fsdp",
        CP,
        lambda case: (
            case.layout.cp > 1 and not (case.layout.fsdp and case.inside("fsdp_config", "version") in (None, 2))
        ),
        "context parallel without FSDP2",
        "context parallelism is part of FSDP2",
        "write `fsdp: true`",
        "read: accelerate state.py AcceleratorState.__init__",
    ),
    Rule(
        "cp-attention",
        ("model", "attn_implementation"),
        lambda case: case.layout.cp > 1 and case.attention != "sdpa",
        "context parallel x any attention but sdpa",
        "torch shares rows by the ring for its own attention alone",
        "write `attn_implementation: sdpa`",
        "read: transformers trainer.py Trainer._prepare_context_parallel_inputs",
    ),
    Rule(
        "cp-document-mask",
        ("data", "packing", "document_mask"),
        lambda case: case.layout.cp > 1 and (case.documents or case.on("padding_free")),
        "context parallel x packed rows with a document mask, or padding_free",
        "context parallelism drops every mask, so documents would see one another",
        "write `document_mask: false`, or leave packing out",
        "read: trl sft_trainer.py SFTTrainer.__init__",
    ),
    Rule(
        "cp-length",
        ("pad_to_multiple_of",),
        lambda case: case.layout.cp > 1 and bool((case.settings.get("pad_to_multiple_of") or 1) % (2 * case.layout.cp)),
        "context parallel x rows that are no multiple of 2 x cp_size",
        "rows are cut into 2 x cp_size parts, so their length must be a multiple of it",
        "leave it out: rows are padded so",
        "ran on two gloo processes: the process group aborts without an error of Python",
    ),
    Rule(
        "cp-window",
        CP,
        lambda case: case.layout.cp > 1 and windows(case),
        "context parallel x sliding windows",
        "context parallelism knows full causal attention alone, and this model has layers with a window",
        "lift it by `model.config`, such as {sliding_window: null}, or leave cp_size out",
        "read: accelerate big_modeling.py _attach_context_parallel_hooks",
    ),
    Rule(
        "tp",
        (SIZES, "tp_size"),
        lambda case: case.layout.tp > 1,
        "tensor parallel",
        "nobody has shown here that a run with tensor parallelism trains and saves what one process does",
        "leave it out; FSDP or ZeRO-3 shard the weights",
        "not tried",
    ),
    Rule(
        "sizes",
        (SIZES,),
        wrong_size,
        "sizes that do not fit num_processes",
        "the sizes multiplied must divide launch.num_processes, and be it where dp_shard_size is stated",
        "change them, or launch.num_processes",
        "read: accelerate parallelism_config.py ParallelismConfig._validate_accelerator",
    ),
    Rule(
        "two-engines",
        ("fsdp",),
        lambda case: case.layout.fsdp and case.layout.deepspeed,
        "DeepSpeed x FSDP",
        "DeepSpeed and FSDP both shard the weights",
        "keep one; a stage turns that of `launch` off by `fsdp: false` or `deepspeed: null`",
        "read: accelerate state.py AcceleratorState.__init__, where DeepSpeed wins without a word",
    ),
    Rule(
        "two-sources",
        ("launch", "config_file"),
        said_twice,
        "a config_file with an engine x deepspeed, fsdp or parallelism_config in the recipe",
        "accelerate's file and the recipe both say how processes share the work",
        "keep one of them",
        "read: transformers training_args.py TrainingArguments._setup_devices",
    ),
    Rule(
        "fsdp-config",
        ("fsdp_config",),
        fsdp_for_nothing,
        "fsdp_config without `fsdp: true`",
        "nothing reads fsdp_config without FSDP",
        "add `fsdp: true`, or leave it out",
        "read: transformers training_args.py TrainingArguments._process_fsdp_args",
    ),
    Rule(
        "offload",
        ("launch",),
        offload_for_nothing,
        "offload without `deepspeed: zero1|zero2|zero3`",
        "offload_optimizer_device and offload_param_device belong to zero1, zero2 and zero3, and no stage has one",
        "add `deepspeed: zero3`; FSDP has fsdp_config.cpu_offload",
        "read: accelerate dataclasses.py DeepSpeedPlugin",
    ),
    Rule(
        "offload-nvme",
        ("launch",),
        lambda case: case.layout.deepspeed and nvme(case),
        "NVMe offload without ZeRO-3 or a path",
        "offload to nvme needs ZeRO-3 and a path",
        "add the `..._nvme_path`, a folder on the local disk, and `deepspeed: zero3`",
        "read: accelerate dataclasses.py DeepSpeedPlugin",
    ),
    Rule(
        "offload-param",
        ("launch", "offload_param_device"),
        lambda case: case.launch.offload_param_device in ("cpu", "nvme") and case.layout.zero in (1, 2),
        "offload of the weights x ZeRO-1 or ZeRO-2",
        "only ZeRO-3 has weights that are not in use",
        "write `deepspeed: zero3`",
        "read: accelerate dataclasses.py DeepSpeedPlugin",
    ),
    Rule(
        "gather",
        ("deepspeed", "zero_optimization", GATHER),
        gathers_nothing,
        "ZeRO-3 that gathers no weights on save",
        "no whole model could be saved at the end of the stage",
        "leave it out: it is true",
        "ran on two gloo processes: no model.safetensors is written",
    ),
    Rule(
        "checkpointing-twice",
        (CHECKPOINTING[0],),
        twice,
        "FSDP's activation checkpointing x that of the model",
        "FSDP's own checkpointing beside it gathers the weights twice in each backward pass",
        "leave it out: fsdp_config.activation_checkpointing is enough",
        "read: transformers training_args.py TrainingArguments._process_fsdp_args",
    ),
    Rule(
        "storage-4bit",
        ("model", "quantization_config", "bnb_4bit_quant_storage"),
        lambda case: sharded(case.layout) and integer_storage(case),
        "four bits x ZeRO-3 or FSDP, packed in integers",
        "four-bit weights that are kept as integers cannot be sharded",
        "write `bnb_4bit_quant_storage: bfloat16`, the dtype of the other weights",
        "read: accelerate fsdp_utils.py fsdp2_prepare_model",
    ),
    Rule(
        "sharded-8bit",
        ("model", "quantization_config", "load_in_8bit"),
        lambda case: sharded(case.layout) and case.quantized(8),
        "eight bits x ZeRO-3 or FSDP",
        "eight-bit weights cannot be sharded",
        "load in four bits with `bnb_4bit_quant_storage: bfloat16`, or use ZeRO-2",
        "read: transformers quantizer_bnb_8bit.py, whose weights are int8 and have no other storage",
    ),
    Rule(
        "selective-zero3",
        ("gradient_checkpointing_kwargs", "selective"),
        lambda case: case.layout.zero == 3 and case.stage.adapter is not None and selective(case),
        "selective checkpointing x adapter x ZeRO-3",
        "an adapter under ZeRO-3 needs reentrant checkpointing, which cannot be selective",
        "leave it out, or use FSDP",
        "read: trl sft_trainer.py SFTTrainer.__init__",
    ),
    Rule(
        "liger-loss",
        ("liger_kernel_config", "fused_linear_cross_entropy"),
        lambda case: bool(case.inside("liger_kernel_config", "fused_linear_cross_entropy")),
        "liger's fused loss x TRL's",
        "TRL computes the loss in chunks already, and refuses liger's",
        "leave it out",
        "read: trl sft_trainer.py SFTTrainer.__init__",
    ),
    Rule(
        "offloading-cpu",
        ("activation_offloading",),
        lambda case: case.on("activation_offloading") and case.on("use_cpu"),
        "activation offloading without a GPU",
        "there is no GPU to take activations from",
        "leave it out",
        "ran in one process: `NoneType` has no attribute `type`, in the first step",
    ),
    Rule(
        "lm-head-adapter",
        ("adapter", "target_modules"),
        lambda case: "lm_head" in listed((case.stage.adapter or {}).get("target_modules")),
        "an adapter on lm_head x TRL's loss",
        "TRL's loss reads the weights of lm_head and would pass its adapter by",
        "leave lm_head out; `modules_to_save: [lm_head]` trains it whole",
        "read: trl sft_trainer.py SFTTrainer.__init__",
    ),
    Rule(
        "flash-float32",
        ("model", "attn_implementation"),
        float_flash,
        "flash attention x float32",
        "flash attention computes in 16 bits, and weights and training are in float32",
        "leave `bf16: false` out of `train`, or choose sdpa",
        "read: transformers modeling_utils.py PreTrainedModel._flash_attn_can_dispatch, which only warns",
    ),
    Rule(
        "carry-shards",
        ("optimizer",),
        carries_shards,
        "optimizer: carry x DeepSpeed or FSDP",
        "DeepSpeed and FSDP keep the optimizer in shards, which are not carried from stage to stage",
        "write `optimizer: reset`",
        "ctxkit's own limit",
    ),
    Rule(
        "sp-eval",
        ("eval_strategy",),
        lambda case: case.layout.sp > 1 and case.settings.get("eval_strategy", "no") != "no",
        "sequence parallel x train.eval_strategy",
        "the trainer's evaluation is not shared out: every process holds whole rows, sp_size times the memory",
        "evaluate by `evals` after the stage, or on shorter rows",
        "read: accelerate accelerator.py Accelerator._prepare_deepspeed, which passes disable_in_eval",
        note=True,
    ),
)
