"""Every row of the table of what cannot be combined: a recipe that reaches it, and one that does not."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from ctxkit.combinations import Case
from ctxkit.compatibility import RULES, incompatible, notable
from ctxkit.layouts import GATHER, layout, zero_stage
from ctxkit.settings import sft_settings, tokens_per_step
from tests.conftest import Faults, Load

BASE: dict[str, Any] = {
    "name": "demo",
    "model": {"config": {"model_type": "llama", "num_attention_heads": 8, "num_key_value_heads": 2}},
    "tokenizer": {"train": {"vocab_size": 300}},
    "data": {"sources": [{"kind": "files", "paths": ["*.txt"]}], "chunker": {"kind": "overlap", "length": 128}},
    "train": {"max_steps": 5},
    "launch": {"num_processes": 4},
}
SP = {"launch": {"deepspeed": "zero3", "parallelism_config": {"sp_size": 4}}}
CP = {"launch": {"fsdp": True, "parallelism_config": {"cp_size": 4}}}
ZERO3 = {"launch": {"deepspeed": "zero3"}}
WEIGHTS = {"model": {"name_or_path": "some/model", "config": None}}
QLORA = {"model": {**WEIGHTS["model"], "quantization_config": {"load_in_4bit": True}}, "adapter": {"r": 8}}
OWN_ZERO3 = {"zero_optimization": {"stage": 3}}
DOCUMENTS = {"data": {"packing": {}}, "train": {"per_device_train_batch_size": 1}}
STAGES = {"stages": [{"name": "a"}, {"name": "b", "optimizer": "carry"}]}


def merged(*parts: dict[str, Any]) -> dict[str, Any]:
    """Return mappings laid over one another."""
    whole: dict[str, Any] = {}
    for part in copy.deepcopy(parts):
        for key, value in part.items():
            both = isinstance(whole.get(key), dict) and isinstance(value, dict)
            whole[key] = merged(whole[key], value) if both else value
    return whole


def sizes(**fields: Any) -> dict[str, Any]:
    """Return a recipe's `parallelism_config`."""
    return {"launch": {"parallelism_config": fields}}


REACHED: dict[str, dict[str, Any]] = {
    "sp-zero": merged(SP, {"launch": {"deepspeed": "zero2"}}),
    "sp-document-mask": merged(SP, DOCUMENTS),
    "sp-document-batch": merged(
        SP,
        DOCUMENTS,
        {"train": {"per_device_train_batch_size": 2}, "model": {"attn_implementation": "flash_attention_2"}},
    ),
    "sp-padding-free": merged(SP, {"train": {"padding_free": True}}),
    "sp-rows": merged(SP, {"train": {"pad_to_multiple_of": 8}}),
    "sp-length": merged(SP, {"data": {"chunker": {"length": 130}}}),
    "sp-attention": merged(SP, {"model": {"attn_implementation": "eager"}}),
    "sp-other-attention": merged(SP, sizes(sp_handler={"sp_attn_implementation": "flash_attention_2"})),
    "sp-heads": merged(SP, {"model": {"config": {"num_attention_heads": 6, "num_key_value_heads": 6}}}),
    "sp-recurrent": merged(SP, {"model": {"config": {"layer_types": ["linear_attention", "full_attention"]}}}),
    "sp-skips": merged(
        SP,
        {
            "model": {"attn_implementation": "flash_attention_2"},
            "data": {"chunker": {"kind": "pose", "target_length": 256}},
        },
    ),
    "sp-loss": merged(SP, {"train": {"loss_type": "dft"}}),
    "sp-cp": merged(SP, {"launch": {"num_processes": 16}}, sizes(cp_size=4)),
    "cp-fsdp": merged(CP, {"launch": {"fsdp": False}}),
    "cp-attention": merged(CP, {"model": {"attn_implementation": "flash_attention_2"}}),
    "cp-document-mask": merged(CP, {"data": {"packing": {}}}),
    "cp-length": merged(CP, {"train": {"pad_to_multiple_of": 4}}),
    "cp-window": merged(CP, {"model": {"config": {"model_type": "mistral", "sliding_window": 64}}}),
    "tp": sizes(tp_size=2),
    "sizes": merged(CP, sizes(cp_size=3)),
    "two-engines": merged(ZERO3, {"launch": {"fsdp": True}}),
    "two-sources": merged(ZERO3, {"launch": {"config_file": "accelerate.yaml"}}),
    "fsdp-config": {"launch": {"fsdp_config": {"cpu_offload": True}}},
    "offload": {"launch": {"fsdp": True, "offload_optimizer_device": "cpu"}},
    "offload-nvme": merged(ZERO3, {"launch": {"offload_param_device": "nvme"}}),
    "offload-param": {"launch": {"deepspeed": "zero2", "offload_param_device": "cpu"}},
    "gather": {"launch": {"deepspeed": merged(OWN_ZERO3, {"zero_optimization": {GATHER: False}})}},
    "checkpointing-twice": {
        "launch": {"fsdp": True, "fsdp_config": {"activation_checkpointing": True}},
        "train": {"activation_checkpointing": True},
    },
    "storage-4bit": merged(QLORA, {"launch": {"fsdp": True}}),
    "sharded-8bit": merged(
        QLORA, ZERO3, {"model": {"quantization_config": {"load_in_4bit": None, "load_in_8bit": True}}}
    ),
    "selective-zero3": merged(
        WEIGHTS, ZERO3, {"adapter": {"r": 8}, "train": {"gradient_checkpointing_kwargs": {"selective": True}}}
    ),
    "liger-loss": {"train": {"liger_kernel_config": {"fused_linear_cross_entropy": True}}},
    "offloading-cpu": {"train": {"activation_offloading": True, "use_cpu": True}},
    "lm-head-adapter": merged(WEIGHTS, {"adapter": {"r": 8, "target_modules": ["q_proj", "lm_head"]}}),
    "flash-float32": {"model": {"attn_implementation": "flash_attention_2"}, "train": {"bf16": False}},
    "carry-shards": merged(ZERO3, STAGES),
    "sp-eval": merged(SP, {"train": {"eval_strategy": "steps"}, "data": {"eval": {"share": 0.1}}}),
}
"""A recipe, laid over `BASE`, for each rule."""
FINE: dict[str, dict[str, Any]] = {
    "ddp": {},
    "sp": SP,
    "sp-flash": merged(SP, {"model": {"attn_implementation": "flash_attention_2"}}),
    "sp-accumulation": merged(SP, {"train": {"gradient_accumulation_steps": 2}}),
    "sp-documents": merged(SP, DOCUMENTS, {"model": {"attn_implementation": "flash_attention_2"}}),
    "sp-packed": merged(SP, {"data": {"packing": {"document_mask": False}}}),
    "cp": CP,
    "cp-no-window": merged(CP, {"model": {"config": {"model_type": "qwen2", "use_sliding_window": False}}}),
    "cp-and-shards": merged(CP, sizes(cp_size=2, dp_shard_size=2)),
    "zero3": merged(ZERO3, {"launch": {"offload_optimizer_device": "cpu", "offload_param_device": "cpu"}}),
    "nvme": merged(ZERO3, {"launch": {"offload_optimizer_device": "nvme", "offload_optimizer_nvme_path": "/fast"}}),
    "fsdp": {"launch": {"fsdp": True, "fsdp_config": {"activation_checkpointing": True}}},
    "qlora-fsdp": merged(
        QLORA, {"launch": {"fsdp": True}, "model": {"quantization_config": {"bnb_4bit_quant_storage": "bfloat16"}}}
    ),
    "qlora-zero2": merged(QLORA, {"launch": {"deepspeed": "zero2"}}),
    "another-file": merged(ZERO3, {"launch": {"config_file": "machines.yaml"}}),
    "engine-of-the-file": {"launch": {"config_file": "engine.yaml", "fsdp": False, "parallelism_config": {}}},
    "fsdp-of-one-stage": {
        "launch": {"fsdp": True, "fsdp_config": {"cpu_offload": True}},
        "stages": [{"name": "a", "train": {"fsdp": False}}, {"name": "b"}],
    },
    "flash-bf16": {"model": {"attn_implementation": "flash_attention_2"}},
    "carry": STAGES,
}


def stated(value: Any) -> Any:
    """Return a mapping without the keys that hold None."""
    return {key: stated(item) for key, item in value.items() if item is not None} if isinstance(value, dict) else value


def recipe(over: dict[str, Any]) -> str:
    """Return the text of a recipe."""
    return json.dumps(stated(merged(BASE, over)), indent=1)


@pytest.mark.parametrize("name", [rule.name for rule in RULES if not rule.note])
def test_a_combination_is_refused_with_its_place(
    name: str, faults: Faults, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fault is the rule's, and names the line of a key of the recipe."""
    (tmp_path / "accelerate.yaml").write_text("mixed_precision: bf16\nfsdp_config:\n  fsdp_version: 2\n")
    monkeypatch.chdir(tmp_path)
    rule = next(rule for rule in RULES if rule.name == name)
    found = [fault for fault in faults(recipe(REACHED[name])) if fault.message == rule.reason]
    assert len(found) == 1
    assert found[0].origin is not None
    assert found[0].origin.line > 0
    assert found[0].hint == rule.hint


@pytest.mark.parametrize("name", [rule.name for rule in RULES if rule.note])
def test_a_note_is_said_and_nothing_is_refused(name: str, load: Load) -> None:
    """What is only said does not stop a recipe."""
    rule = next(rule for rule in RULES if rule.name == name)
    located = load(recipe(REACHED[name]))
    assert [fault.message for fault in notable(located, located.recipe.stages[0])] == [rule.reason]


@pytest.mark.parametrize("name", FINE)
def test_what_works_is_neither_refused_nor_said(
    name: str, load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Layouts that two processes were seen to train with pass, and so do their relatives."""
    (tmp_path / "engine.yaml").write_text("deepspeed_config:\n  zero_stage: 3\n")
    monkeypatch.chdir(tmp_path)
    located = load(recipe(FINE[name]))
    assert not [fault for stage in located.recipe.stages for fault in notable(located, stage)]


def test_an_engine_of_train_beside_that_of_accelerate_is_refused(
    faults: Faults, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file and the recipe may not both say it, wherever the recipe does."""
    (tmp_path / "accelerate.yaml").write_text("deepspeed_config:\n  zero_stage: 2\n")
    monkeypatch.chdir(tmp_path)
    found = faults(recipe({"launch": {"config_file": "accelerate.yaml"}, "train": {"fsdp": True}}))
    assert [fault.message for fault in found] == [rule.reason for rule in RULES if rule.name == "two-sources"]


def test_every_rule_has_a_recipe_and_a_source() -> None:
    """No rule is unreached, none has two names, and each says what it stands on."""
    assert [rule.name for rule in RULES] == list(REACHED)
    assert all(rule.found and rule.what and rule.hint for rule in RULES)


def test_the_loaded_model_is_judged_too(load: Load) -> None:
    """What a recipe does not say, the config of the loaded model does."""
    located = load(recipe(merged(SP, WEIGHTS)))
    stage = located.recipe.stages[0]
    assert not list(incompatible(located, stage))
    found = incompatible(located, stage, {"num_attention_heads": 6, "num_key_value_heads": 6})
    assert [fault.message for fault in found] == [rule.reason for rule in RULES if rule.name == "sp-heads"]


def test_parallelism_config_of_a_stage_is_judged_as_that_of_launch(faults: Faults) -> None:
    """A misspelt field in `train` is a fault with its place."""
    found = faults(recipe({"train": {"parallelism_config": {"cp_sise": 2}}}))
    assert [fault.dotted for fault in found] == ["train.parallelism_config.cp_sise"]


def test_launch_becomes_fields_of_sft_config_with_their_origins(load: Load) -> None:
    """The short names come to DeepSpeed's own configuration, and what rows need follows."""
    located = load(recipe(merged(SP, {"launch": {"offload_optimizer_device": "cpu"}})))
    settings = sft_settings(located, located.recipe.stages[0])
    zero = settings["deepspeed"].value["zero_optimization"]
    assert (zero["stage"], zero[GATHER]) == (3, True)
    assert zero["offload_optimizer"] == {"device": "cpu", "pin_memory": True}
    assert "recipe.yaml:" in settings["deepspeed"].origin
    assert settings["parallelism_config"].value == {"sp_size": 4, "sp_handler": {"sp_attn_implementation": "sdpa"}}
    assert settings["pad_to_multiple_of"].value == 128
    # Four processes share each row, so a step sees one batch of eight rows and not four.
    assert tokens_per_step(located, located.recipe.stages[0], 4) == 8 * 128


def test_a_stage_chooses_another_layout(load: Load) -> None:
    """An engine in `train` takes the place of that of `launch`, and null leaves none."""
    stages = [{"name": "a"}, {"name": "b", "train": {"deepspeed": "zero2"}}, {"name": "c", "train": {"fsdp": False}}]
    located = load(recipe({"launch": {"fsdp": True}, "stages": stages}))
    found = [layout(located, stage) for stage in located.recipe.stages]
    assert [(each.fsdp, each.zero) for each in found] == [(True, 0), (False, 2), (False, 0)]


def test_own_configuration_of_zero3_gathers(load: Load) -> None:
    """A mapping for DeepSpeed is kept, and told to save whole weights."""
    located = load(recipe({"launch": {"deepspeed": OWN_ZERO3}}))
    config = sft_settings(located, located.recipe.stages[0])["deepspeed"].value
    assert config == {"zero_optimization": {"stage": 3, GATHER: True}}
    assert zero_stage(config) == 3


def test_checkpointing_of_fsdp_turns_off_that_of_the_model(load: Load) -> None:
    """TRL's default would stand beside it."""
    located = load(recipe(FINE["fsdp"]))
    assert sft_settings(located, located.recipe.stages[0])["activation_checkpointing"].value is False


def test_a_case_knows_the_config_of_the_recipe(load: Load) -> None:
    """Without weights the config is that of the recipe."""
    located = load(recipe({}))
    assert Case(located, located.recipe.stages[0]).config["num_attention_heads"] == 8
