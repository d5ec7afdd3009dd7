"""The planner's answer: what a recipe becomes, what it says first, and that its advice holds when it is followed."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from ctxkit import plan as plans
from ctxkit.cli import cli
from ctxkit.errors import CtxkitError
from ctxkit.host import Host
from ctxkit.plan_request import plan_request
from ctxkit.reading import Located
from ctxkit.registry import Registry
from ctxkit.rundir import RunDirectory
from ctxkit.spec import Hardware, PlanAnswer
from ctxkit_planner.advice import advise
from ctxkit_planner.changes import more_gpus
from ctxkit_planner.gpus import GPUS
from ctxkit_planner.plans import Plan, make_plan
from ctxkit_planner.setups import setup_of
from ctxkit_planner.shown import duration, many, yaml_lines

Load = Callable[..., Located]


@pytest.fixture(autouse=True)
def nothing_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave aside what a person measured on this machine."""
    monkeypatch.setenv("CTXKIT_CACHE", os.devnull)


RECIPES = Path(__file__).parents[3] / "recipes"
BASE = """\
name: planned
model: {name_or_path: meta-llama/Llama-2-7b-hf, dtype: float32, attn_implementation: sdpa}
data:
  sources: [{kind: files, paths: ["*.txt"]}]
  chunker: {kind: overlap, length: 16384}
train: {max_steps: 100, per_device_train_batch_size: 1, gradient_accumulation_steps: 8}
launch: {num_processes: 8}
"""
H100 = Hardware(gpu="h100-80gb", price=2.5)


def asked(located: Located, host: Host, hardware: Hardware = H100, folder: Path = Path("nowhere")) -> PlanAnswer:
    """Return the answer to `ctxkit plan --gpu`."""
    return plans.on_hardware(located, host, hardware, RunDirectory(folder))


def planned(located: Located, gpu: str, gpus: int | None = None) -> Plan:
    """Return the plan itself."""
    return make_plan(plan_request(located, "plan", Hardware(gpu=gpu, gpus=gpus)), GPUS[gpu])


def recipe(file: str, registry: Registry, host: Host) -> Located:
    """Return a shipped recipe."""
    from ctxkit.checks import load

    return load(RECIPES / f"{file}.yaml", registry, host)


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recipe with values written into it, as a person would write them."""
    made = dict(below)
    for key, value in above.items():
        under = made.get(key)
        made[key] = merged(under, value) if isinstance(under, dict) and isinstance(value, Mapping) else value
    return made


def test_the_first_lines_answer_four_questions(registry: Registry, host: Host) -> None:
    """The eight-GPU recipe on a laptop: does it fit, how long, what does it cost, what would I change."""
    answer = asked(recipe("llama2_32k_yarn", registry, host), host)
    first = answer.text.splitlines()[2:9]
    said = " ".join(" ".join(first).split())
    assert answer.text.startswith("llama2-7b-32k-yarn on 8 GPUs h100-80gb\n")
    assert [line.split("  ")[0] for line in first if not line.startswith(" ")] == [
        "Does it fit?",
        "How long?",
        "At what cost?",
        "Change what?",
    ]
    values = answer.values
    peak = values["stages"][0]["peak_bytes"] / 2**30
    assert f"Yes: {peak:.1f} of 79.1 GiB of a GPU at the peak" in said
    assert "for 400 steps" in said
    assert f"{values['cost']:,.0f}: {values['gpu_hours']:,.0f} GPU hours at 2.50 an hour." in said
    assert "Nothing must change. There would be room for rows of" in said


@pytest.mark.parametrize("file", sorted(path.stem for path in RECIPES.glob("*.yaml")))
def test_every_recipe_has_a_plan(file: str, registry: Registry, host: Host) -> None:
    """Each shipped recipe is planned, in 80 columns, and its figures agree with one another."""
    located = recipe(file, registry, host)
    answer, small = asked(located, host), asked(located, host, Hardware(gpu="t4", gpus=3))
    values = json.loads(json.dumps(answer.values))
    lines = [*answer.text.splitlines(), *small.text.splitlines()]
    assert [line for line in lines if len(line) > 80 or line != line.rstrip()] == []
    for stage in (stage for stage in values["stages"] if stage["steps"] != 0):
        assert stage["peak_bytes"] == pytest.approx(sum(stage["memory_bytes"].values()))
        assert stage["fits"] == (stage["peak_bytes"] <= values["usable_bytes"])
        assert (stage["largest_window"] >= stage["row_length"] // 1024 * 1024) == stage["fits"]
        if stage["steps"]:
            assert stage["seconds"] == pytest.approx(stage["steps"] * sum(stage["step_seconds"].values()))
            assert stage["tokens"] == stage["steps"] * stage["tokens_per_step"]
    if values["seconds"] is not None:
        assert values["seconds"] == pytest.approx(sum(stage.get("seconds", 0) for stage in values["stages"]))
        assert values["cost"] == pytest.approx(values["seconds"] / 3600 * values["gpus"] * 2.5)


SITUATIONS = [
    ("plain full training", {}, "h100-80gb", 8),
    ("one GPU", {"launch": {"num_processes": 1}}, "h100-80gb", 1),
    ("FSDP in train", {"train": {"fsdp": True, "fsdp_config": {"activation_checkpointing": True},
                                 "activation_checkpointing": False}}, "rtx-4090", 8),
    ("FSDP in launch, nothing checkpointed", {"launch": {"fsdp": True}, "train": {"activation_checkpointing": False}},
     "a100-80gb", 8),
    ("ZeRO-2", {"launch": {"deepspeed": "zero2"}}, "rtx-5090", 8),
    ("ZeRO-3 of long rows", {"launch": {"deepspeed": "zero3"}, "data": {"chunker": {"length": 262144}}},
     "h100-80gb", 8),
    ("an adapter on a small GPU", {"adapter": {"r": 16, "target_modules": ["q_proj", "v_proj"]}}, "rtx-4090", 1),
    ("batches of four", {"train": {"per_device_train_batch_size": 4}, "model": {"dtype": "bfloat16"}}, "h100-80gb", 8),
    ("FSDP with offload", {"launch": {"fsdp": True, "fsdp_config": {"activation_checkpointing": True,
                                                                    "cpu_offload": True}},
                           "train": {"activation_checkpointing": False}, "data": {"chunker": {"length": 131072}}},
     "rtx-4090", 8),
    ("FSDP that train turns off", {"launch": {"fsdp": True}, "train": {"fsdp": False}}, "h100-80gb", 8),
    ("sharded copies", {"launch": {"fsdp": True, "parallelism_config": {"dp_replicate_size": 2, "dp_shard_size": 4}},
                        "train": {"activation_checkpointing": False}}, "rtx-4090", 8),
    ("optimizer on the host", {"launch": {"deepspeed": "zero2", "offload_optimizer_device": "cpu"}}, "rtx-3090", 8),
    ("older names", {"train": {"gradient_checkpointing": True,
                               "gradient_checkpointing_kwargs": {"every_n_layers": 4}}}, "rtx-4090", 8),
    ("selective", {"launch": {"deepspeed": "zero3"}, "data": {"chunker": {"length": 131072}},
                   "train": {"gradient_checkpointing_kwargs": {"selective": True}}}, "rtx-4090", 8),
    ("float16", {"launch": {"deepspeed": "zero3"}, "train": {"fp16": True, "bf16": False},
                 "model": {"dtype": "float16"}, "data": {"chunker": {"length": 131072}}}, "rtx-4090", 8),
    ("full precision", {"train": {"bf16": False}}, "rtx-4090", 8),
    ("packed rows", {"data": {"packing": {}, "chunker": {"length": 131072}}, "launch": {"deepspeed": "zero3"}},
     "h100-80gb", 8),
]  # fmt: skip


@pytest.mark.parametrize(("values", "gpu", "gpus"), [case[1:] for case in SITUATIONS], ids=[s[0] for s in SITUATIONS])
def test_advice_holds_when_it_is_followed(values: dict[str, Any], gpu: str, gpus: int, load: Load, host: Host) -> None:
    """What the advice writes is a valid recipe, and the plan of that recipe has the memory that was promised."""
    written = merged(yaml.safe_load(BASE), values)
    stage = planned(load(yaml.safe_dump(written)), gpu, gpus).stages[0]
    found = advise(stage)
    assert not stage.fits
    assert found.singles
    for one in (*found.singles, *found.ways):
        text = "\n".join(yaml_lines(one.changed.write, 0))
        followed = load(yaml.safe_dump(merged(written, yaml.safe_load(text))))
        again = planned(followed, gpu, one.changed.plan.machines.gpus).stages[0]
        assert again.setup == one.changed.plan.setup, one.changed.names
        assert again.memory.peak_bytes == pytest.approx(one.bytes), one.changed.names
        assert again.tokens_per_step == stage.tokens_per_step, one.changed.names
        assert again.fits == one.fits


def test_single_changes_are_ranked(load: Load) -> None:
    """Those that make it fit come first; of these, what trains the same model; then by what they save."""
    found = advise(planned(load(BASE), "h100-80gb").stages[0])
    fits = [one.fits for one in found.singles]
    alters = [one.changed.alters for one in found.singles if one.fits]
    saved = [one.saved for one in found.singles if not one.fits]
    assert fits == sorted(fits, reverse=True)
    assert any(fits)
    assert alters == sorted(alters)
    assert saved == sorted(saved, reverse=True)
    assert found.cheapest is not None
    assert not found.cheapest.changed.alters
    assert found.cheapest.changed.plan.machines.gpus == 8


def test_the_gpus_that_were_typed_come_first(registry: Registry, host: Host) -> None:
    """One GPU was typed: what fits it comes first, what trains all weights on more GPUs beside it."""
    answer = asked(recipe("llama2_32k_yarn", registry, host), host, Hardware(gpu="rtx-4090", gpus=1))
    (stage,) = answer.values["stages"]
    here, same = stage["on_these_gpus"], stage["cheapest"]
    assert (here["changes"], here["gpus"], here["trains_another_model"], here["fits"]) == (["QLoRA"], 1, True, True)
    assert (same["gpus"] > 1, same["trains_another_model"], same["fits"]) == (True, False, True)
    change = " ".join(answer.text.partition("Change what?")[2].partition("parameters")[0].split())
    assert 0 < change.index("QLoRA") < change.index("or, to train what it trains now") < change.index(" GPUs (")
    assert "Or, to train what it trains now, write into the recipe:" in answer.text


def test_one_way_is_said_once(load: Load) -> None:
    """Where the model stays the same on the same GPUs there is one proposal, and none where nothing helps."""
    (stage,) = planned(load(BASE), "h100-80gb").stages
    (only,) = advise(stage).ways
    assert (only.changed.alters, only.changed.plan.machines.gpus) == (False, 8)
    (hopeless,) = planned(load(yaml.safe_dump(merged(yaml.safe_load(BASE), {"adapter": {"r": 8}}))), "t4", 1).stages
    assert [one.changed.plan.machines.gpus for one in advise(hopeless).ways] == [1]


def test_heads_that_cannot_be_shared_are_not(load: Load) -> None:
    """Qwen2.5-7B has 28 heads, 4 of them for keys: 2 and 4 GPUs can share a row, 8 cannot."""
    long = merged(yaml.safe_load(BASE), {"data": {"chunker": {"length": 1048576}}, "launch": {"deepspeed": "zero3"}})
    qwen = merged(long, {"model": {"name_or_path": "Qwen/Qwen2.5-7B"}})
    for written, sizes in ((long, {8}), (qwen, {4})):
        found = advise(planned(load(yaml.safe_dump(written)), "h100-80gb").stages[0])
        shared = {one.changed.plan.setup.sequence_size for one in found.singles} - {1}
        assert shared == sizes


def test_an_optimizer_that_is_carried_stays_whole(load: Load) -> None:
    """Stages that carry the optimizer on cannot be spread, and the advice does not say so."""
    two = merged(yaml.safe_load(BASE), {"stages": [{"name": "a"}, {"name": "b", "optimizer": "carry"}]})
    made = planned(load(yaml.safe_dump(two)), "h100-80gb")
    names = [{name for one in advise(stage).singles for name in one.changed.names} for stage in made.stages]
    assert "FSDP over all GPUs" in names[0]
    assert not any("over" in name and "GPUs" in name for name in names[1])


def test_one_stage_of_several_is_changed_alone(load: Load, host: Host) -> None:
    """Where stages share `launch`, an engine is written into the stage that needs it."""
    stages = [{"name": "short", "data": {"chunker": {"kind": "overlap", "length": 1024}}}, {"name": "long"}]
    written = merged(yaml.safe_load(BASE), {"stages": stages})
    answer = asked(load(yaml.safe_dump(written)), host)
    cheapest = answer.values["stages"][1]["cheapest"]
    assert "launch" not in cheapest["write"]
    assert {"fsdp", "deepspeed"} & set(cheapest["write"]["train"])
    assert "all but launch and model into stage long:" in " ".join(answer.text.split())


def test_a_stage_without_steps_is_not_changed(load: Load) -> None:
    """What is written for one stage must not reach another, though that takes no step: its weights are saved."""
    stages: list[dict[str, Any]] = [{"name": "first", "train": {"max_steps": 0}}, {"name": "then"}]
    long = {"data": {"chunker": {"length": 131072}}, "stages": stages}
    written = merged(yaml.safe_load(BASE), long)
    stage = planned(load(yaml.safe_dump(written)), "t4").stages[1]
    found = advise(stage)
    assert not stage.fits
    assert found.cheapest is not None
    for one in (*found.singles, *found.ways):
        shared = {key: value for key, value in one.changed.write.items() if key in ("launch", "model")}
        own = {key: value for key, value in one.changed.write.items() if key not in shared}
        followed = merged(merged(written, shared), {"stages": [stages[0], merged(stages[1], own)]})
        again = planned(load(yaml.safe_dump(followed)), "t4", one.changed.plan.machines.gpus).stages[1]
        assert again.setup == one.changed.plan.setup, one.changed.names


def test_a_step_that_grows_is_said(load: Load) -> None:
    """More GPUs take batches from the accumulation as long as there are some; then a step sees more tokens."""
    for accumulation, gpus, said in ((8, 64, ()), (1, 64, ("a step sees 8 times the tokens",))):
        few = {"launch": {"fsdp": True}, "train": {"gradient_accumulation_steps": accumulation}}
        (stage,) = planned(load(yaml.safe_dump(merged(yaml.safe_load(BASE), few))), "a10g").stages
        more = more_gpus(gpus // 8)(stage)
        assert more is not None
        assert more.price == said
        assert more.plan.tokens_per_step == stage.tokens_per_step * (8 if said else 1)


def test_a_fresh_model_gets_no_adapter(load: Load) -> None:
    """Without weights there is nothing that an adapter could lie beside."""
    config = {"model_type": "llama", "hidden_size": 8192, "num_hidden_layers": 80, "num_attention_heads": 64}
    fresh = merged(yaml.safe_load(BASE), {"tokenizer": {"name_or_path": "some/tokenizer"}})
    fresh["model"] = {"config": config}
    found = advise(planned(load(yaml.safe_dump(fresh)), "h100-80gb").stages[0])
    assert found.singles
    assert not {"LoRA", "QLoRA"} & {name for one in found.singles for name in one.changed.names}


def test_other_gpus_than_the_recipe_is_made_for(load: Load, host: Host) -> None:
    """The plan is for those that were typed, and says what becomes of a step's tokens, and how they stay."""
    answer = asked(load(BASE), host, Hardware(gpu="h100-80gb", gpus=16))
    assert answer.values["stages"][0]["tokens_per_step"] == 16 * 8 * 16384
    said = " ".join(answer.text.split())
    assert "made for 8 GPUs: on 16 a step sees 2 times the tokens; with gradient_accumulation_steps: 4" in said


def test_prepared_data_is_counted(tmp_path: Path, load: Load, host: Host) -> None:
    """Rows of the manifest decide on steps, tokens and how full rows are; three epochs are TRL's default."""
    by_epochs = merged(yaml.safe_load(BASE), {"train": {"max_steps": -1}})
    located = load(yaml.safe_dump(by_epochs))
    (stage,) = asked(located, host, folder=tmp_path).values["stages"]
    assert (stage["steps"], stage["pack_efficiency"]) == (None, None)
    train = {"rows": 1000, "tokens": 8_192_000, "tokens_trained": 4_096_000, "longest": 12_000}
    (tmp_path / "data/key").mkdir(parents=True)
    (tmp_path / "data.json").write_text(json.dumps({"stages": {"planned": "key"}}))
    (tmp_path / "data/key/manifest.json").write_text(json.dumps({"train": train}))
    (stage,) = asked(located, host, folder=tmp_path).values["stages"]
    assert stage["steps"] == math.ceil(1000 / 64) * 3
    assert stage["tokens_per_step"] == 64 * 8192
    assert stage["pack_efficiency"] == pytest.approx(4_096_000 / (1000 * 16384))
    assert stage["row_length"] == 12_000


def test_several_gpus_sum_their_gradients_in_buckets(load: Load, host: Host) -> None:
    """DDP holds all gradients a second time in its buckets (`gradient_as_bucket_view` is off), and updates them all."""
    located = load(yaml.safe_dump(merged(yaml.safe_load(BASE), {"model": {"dtype": "bfloat16"}})))
    one, eight = (asked(located, host, Hardware(gpu="h200", gpus=gpus)).values["stages"][0] for gpus in (1, 8))
    assert one["memory_bytes"]["communication"] == 0
    assert eight["memory_bytes"]["communication"] == 2 * 6_738_415_616
    assert one["step_seconds"]["update"] == pytest.approx(eight["step_seconds"]["update"])


def test_steps_of_epochs_without_data(load: Load, host: Host) -> None:
    """`data.max_tokens` bounds the rows; without it the steps are not known, and that is said."""
    by_epochs = {"train": {"max_steps": -1, "num_train_epochs": 1}}
    bounded = merged(yaml.safe_load(BASE), {**by_epochs, "data": {"max_tokens": 64 * 16384 * 10}})
    assert asked(load(yaml.safe_dump(bounded)), host).values["stages"][0]["steps"] == 10
    answer = asked(load(yaml.safe_dump(merged(yaml.safe_load(BASE), by_epochs))), host)
    assert answer.values["cost"] is None
    assert "`ctxkit data RECIPE` makes the number of steps known" in " ".join(answer.text.split())


def test_host_memory_counts_where_it_is_said(load: Load, host: Host) -> None:
    """Activations in the host's memory must fit there too, for all processes of a machine."""
    offloaded = merged(yaml.safe_load(BASE), {"train": {"activation_offloading": True}, "launch": {"fsdp": True}})
    located = load(yaml.safe_dump(offloaded))
    needed = asked(located, host).values["stages"][0]["host_bytes"]
    assert asked(located, host).values["fits"]
    short = asked(located, host, Hardware(gpu="h100-80gb", host_bytes=int(needed) - 1))
    assert not short.values["fits"]
    assert "GiB of a machine's memory" in " ".join(short.text.split())
    assert asked(located, host, Hardware(gpu="h100-80gb", host_bytes=int(needed) + 1)).values["fits"]


def test_a_model_that_is_not_known(load: Load, host: Host) -> None:
    """Says how its shape is written; written so, it is planned."""
    unknown = merged(yaml.safe_load(BASE), {"model": {"name_or_path": "some/model"}})
    with pytest.raises(CtxkitError, match="shape of some/model is not known here") as caught:
        asked(load(yaml.safe_dump(unknown)), host)
    assert "model.config" in caught.value.hint
    shape = {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32}
    stated = merged(unknown, {"model": {"config": {**shape, "num_key_value_heads": 32, "vocab_size": 32000}}})
    answer = asked(load(yaml.safe_dump(stated)), host)
    assert answer.values["parameters"] == 6_738_415_616
    assert "model.config of the recipe" in " ".join(answer.text.split())


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, {"weights": "float32", "compute_bytes": 2, "checkpointing": "full", "sharding": "none", "shards": 8}),
        ({"train": {"bf16": False}}, {"compute_bytes": 4}),
        ({"train": {"bf16": False, "fp16": True}}, {"compute_bytes": 2}),
        ({"train": {"activation_checkpointing": False}}, {"checkpointing": "none"}),
        ({"train": {"gradient_checkpointing": False}}, {"checkpointing": "none"}),
        ({"train": {"gradient_checkpointing_kwargs": {"selective": True}}}, {"checkpointing": "selective"}),
        ({"train": {"activation_checkpointing_kwargs": {"every_n_layers": 2}}}, {"every_n_layers": 2}),
        ({"train": {"activation_offloading": True}}, {"activation_offload": True}),
        ({"train": {"optim": "adamw_8bit"}}, {"optimizer": "adamw_8bit"}),
        ({"train": {"use_liger_kernel": True}}, {"liger_layers": True}),
        ({"train": {"per_device_train_batch_size": 2}}, {"rows": 2, "dense_mask": False}),
        ({"data": {"packing": {}}}, {"dense_mask": True}),
        ({"data": {"packing": {}}, "model": {"attn_implementation": "flash_attention_2"}},
         {"dense_mask": False, "attention": "flash"}),
        ({"launch": {"deepspeed": "zero3", "offload_optimizer_device": "cpu"}},
         {"sharding": "zero3", "shards": 8, "offload_optimizer": "cpu", "offload_param": "none"}),
        ({"launch": {"fsdp": True, "fsdp_config": {"cpu_offload": True}}},
         {"sharding": "fsdp", "shards": 8, "offload_param": "cpu"}),
        ({"launch": {"fsdp": True, "fsdp_config": {"reshard_after_forward": False}}}, {"reshards": False}),
        ({"launch": {"fsdp": True, "parallelism_config": {"dp_replicate_size": 2, "dp_shard_size": 4}}},
         {"sharding": "fsdp", "shards": 4}),
        ({"launch": {"deepspeed": "zero3", "parallelism_config": {"sp_size": 4}}},
         {"sequence": "ulysses", "sequence_size": 4, "dense_mask": False}),
        ({"launch": {"fsdp": True, "parallelism_config": {"cp_size": 2}}}, {"sequence": "ring", "sequence_size": 2}),
        ({"patches": [{"kind": "tiled_mlp", "tile": 512}]}, {"mlp_tile": 512}),
        ({"model": {"dtype": "auto"}}, {"weights": "bfloat16"}),
        ({"model": {"quantization_config": {"load_in_4bit": True, "bnb_4bit_use_double_quant": True}},
          "adapter": {"r": 4, "target_modules": "all-linear"}}, {"weights": "nf4_double"}),
        ({"model": {"quantization_config": {"load_in_8bit": True}}, "adapter": {"r": 4}}, {"weights": "int8"}),
    ],
)  # fmt: skip
def test_setups(values: dict[str, Any], expected: dict[str, Any], load: Load) -> None:
    """What SFTConfig, peft, DeepSpeed and FSDP are told, in the words of the memory engine."""
    request = plan_request(load(yaml.safe_dump(merged(yaml.safe_load(BASE), values))), "plan")
    setup = setup_of(request.recipe, request.stages[0], {}, 8)
    assert {key: getattr(setup, key) for key in expected} == expected


def test_weights_that_stay_gathered(load: Load) -> None:
    """FSDP without `reshard_after_forward` holds all bf16 weights of Llama-2-7B, 2 bytes each, beside its shard."""
    freed, kept = (
        planned(
            load(yaml.safe_dump(merged(yaml.safe_load(BASE), {"launch": {"fsdp": True, "fsdp_config": config}}))),
            "h100-80gb",
        ).stages[0]
        for config in ({}, {"reshard_after_forward": False})
    )
    assert kept.memory.device["communication"] == pytest.approx(2 * 6_738_415_616, rel=0.1)
    assert freed.memory.device["communication"] < 0.2 * kept.memory.device["communication"]


def test_weights_that_were_stored_quantized(load: Load, host: Host, tmp_path: Path) -> None:
    """A config.json may say that its weights are 4-bit ones; one of a method that is not known is said to be so."""
    stored = {"model_type": "llama", "vocab_size": 32000, "num_key_value_heads": 32}
    for quantized, gib, noted in (
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, (6.6e9 * 0.5625 + 0.13e9 * 4) / 2**30, False),
        ({"quant_method": "gptq", "bits": 4}, 6.74e9 * 2 / 2**30, True),
    ):
        (tmp_path / "config.json").write_text(json.dumps({**stored, "quantization_config": quantized}))
        model = {"name_or_path": str(tmp_path), "dtype": "bfloat16"}
        answer = asked(load(yaml.safe_dump(merged(yaml.safe_load(BASE), {"model": model, "adapter": {"r": 8}}))), host)
        assert answer.values["stages"][0]["memory_bytes"]["weights"] / 2**30 == pytest.approx(gib, rel=0.05)
        assert any("gptq" in note for note in answer.values["notes"]) is noted


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (
            {"train": {"deepspeed": "none.json"}},
            "no ZeRO stage is read in train.deepspeed of stage planned (none.json)",
        ),
        (
            {"adapter": {"r": 8, "rank_pattern": {"q_proj": 256}}},
            "adapter.rank_pattern of stage planned is not counted",
        ),
        ({"adapter": {"r": 8, "target_modules": ["nope"]}}, "finds none of its modules"),
        ({"adapter": {"r": 8, "target_modules": ["q_proj"], "bias": "none"}}, None),
    ],
)
def test_what_is_not_counted_is_said(values: dict[str, Any], said: str | None, load: Load, host: Host) -> None:
    """Figures that leave out what the recipe says name it."""
    notes = " ".join(asked(load(yaml.safe_dump(merged(yaml.safe_load(BASE), values))), host).values["notes"])
    assert said in notes if said else not notes


@pytest.mark.parametrize(("stage", "said"), [(5, True), (-1, True), ("x", True), (None, True), (0, False), (2, False)])
def test_a_stage_that_zero_has_not(*, stage: object, said: bool, tmp_path: Path, load: Load, host: Host) -> None:
    """DeepSpeed will refuse it; the plan counts nothing of it and says so."""
    (tmp_path / "ds.json").write_text(json.dumps({"zero_optimization": {"stage": stage}}))
    written = merged(yaml.safe_load(BASE), {"train": {"deepspeed": str(tmp_path / "ds.json")}})
    notes = " ".join(asked(load(yaml.safe_dump(written)), host).values["notes"])
    assert ("no ZeRO stage is read" in notes) is said


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (b"\xff\xfe", "it is no text in UTF-8"),
        (b'{"model_type": "llama", "layer_types": 3}', "layer_types: 3, which is no list"),
        (b'{"model_type": "qwen3_moe", "decoder_sparse_step": 0}', "decoder_sparse_step: 0, which is no size"),
    ],
)
def test_a_config_that_is_damaged(config: bytes, said: str, tmp_path: Path, load: Load, host: Host) -> None:
    """The file is named, or the key in it; nothing of the planner's is to blame."""
    (tmp_path / "config.json").write_bytes(config)
    located = load(yaml.safe_dump(merged(yaml.safe_load(BASE), {"model": {"name_or_path": str(tmp_path)}})))
    with pytest.raises(CtxkitError, match=re.escape(said)) as caught:
        asked(located, host)
    assert caught.value.exit_code == 2


def test_a_pattern_that_is_none(load: Load, host: Host) -> None:
    """A regular expression that is none is the recipe's fault."""
    written = merged(yaml.safe_load(BASE), {"adapter": {"r": 8, "target_modules": "(["}})
    with pytest.raises(CtxkitError, match=r"adapter.target_modules: '\(\[' is no regular expression") as caught:
        asked(load(yaml.safe_dump(written)), host)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("sizes", "gpus", "said"),
    [({"sp_size": 8}, 3, "a multiple of 8 GPUs"), ({"dp_replicate_size": 2, "dp_shard_size": 4}, 16, "needs 8 GPUs")],
)
def test_a_layout_that_cannot_start(sizes: dict[str, int], gpus: int, said: str, load: Load, host: Host) -> None:
    """It is the first thing that is said, however much memory there is."""
    engine = {"deepspeed": "zero3"} if "sp_size" in sizes else {"fsdp": True}
    located = load(yaml.safe_dump(merged(yaml.safe_load(BASE), {"launch": {**engine, "parallelism_config": sizes}})))
    answer = asked(located, host, Hardware(gpu="b200", gpus=gpus))
    assert not answer.values["fits"]
    first = " ".join(answer.text.partition("How long?")[0].split())
    assert "Does it fit? No: stage planned needs" in first
    assert said in first
    assert f"--gpus {8}" in answer.text
    assert asked(located, host, Hardware(gpu="b200", gpus=8)).values["fits"]


@pytest.mark.parametrize("value", ["x", 0, -1, 1.5, True])
def test_a_size_that_is_none(value: object, load: Load, host: Host) -> None:
    """What stands in the recipe is the recipe's fault, not the planner's."""
    located = load(yaml.safe_dump(merged(yaml.safe_load(BASE), {"model": {"config": {"num_attention_heads": value}}})))
    with pytest.raises(CtxkitError, match=r"num_attention_heads: .* is no size") as caught:
        asked(located, host)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    "typed",
    [
        ("--mfu", "nan"),
        ("--mfu", "0"),
        ("--mfu", "2"),
        ("--price", "inf"),
        ("--price", "nan"),
        ("--host-memory", "inf"),
    ],
)
def test_numbers_that_are_none(typed: tuple[str, str]) -> None:
    """`nan` is in every range, and `inf` in an open one."""
    made = CliRunner().invoke(cli, ["plan", "recipe.yaml", "--gpu", "h100", *typed])
    assert made.exit_code == 2
    assert f"Invalid value for '{typed[0]}'" in made.output


def test_a_price_of_nothing_needs_a_gpu() -> None:
    """0 is a price, so that it is not passed over in silence."""
    made = CliRunner().invoke(cli, ["plan", "recipe.yaml", "--price", "0"])
    assert made.exit_code == 2
    assert "--price needs --gpu NAME" in made.output


def test_adapters(load: Load) -> None:
    """The adapter's fields are peft's own."""
    fields = {"r": 4, "target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"], "use_dora": True}
    request = plan_request(load(yaml.safe_dump(merged(yaml.safe_load(BASE), {"adapter": fields}))), "plan")
    adapter = setup_of(request.recipe, request.stages[0], {}, 8).adapter
    assert adapter is not None
    assert (adapter.r, adapter.target_modules, adapter.use_dora) == (4, ("q_proj",), True)
    assert adapter.modules_to_save == ("embed_tokens",)
    assert adapter.dtype_bytes == 4
    four_bit = {"model": {"quantization_config": {"load_in_4bit": True}}, "adapter": fields}
    request = plan_request(load(yaml.safe_dump(merged(yaml.safe_load(BASE), four_bit))), "plan")
    adapter = setup_of(request.recipe, request.stages[0], {}, 8).adapter
    assert adapter is not None
    assert adapter.dtype_bytes == 2


def test_a_file_of_deepspeed_is_read(tmp_path: Path, load: Load) -> None:
    """`train.deepspeed` may name DeepSpeed's own file; one that cannot be read counts as none."""
    file = tmp_path / "ds.json"
    file.write_text(json.dumps({"zero_optimization": {"stage": 2, "offload_optimizer": {"device": "cpu"}}}))
    for path, expected in ((file, ("zero2", "cpu")), (tmp_path / "none.json", ("none", "none"))):
        located = load(yaml.safe_dump(merged(yaml.safe_load(BASE), {"train": {"deepspeed": str(path)}})))
        request = plan_request(located, "plan")
        setup = setup_of(request.recipe, request.stages[0], {}, 8)
        assert (setup.sharding, setup.offload_optimizer) == expected


def test_what_is_not_read_is_said(load: Load, host: Host) -> None:
    """A file of accelerate may spread the weights, which the plan does not see."""
    located = load(yaml.safe_dump(merged(yaml.safe_load(BASE), {"launch": {"config_file": "acc.yaml"}})))
    assert "launch.config_file (acc.yaml) is not read" in " ".join(asked(located, host).text.split())


def test_a_gpu_without_bfloat16(load: Load, host: Host) -> None:
    """T4 computes in float16; TRL would turn bf16 on."""
    for train, noted in (({}, True), ({"bf16": False, "fp16": True}, False), ({"bf16": False}, False)):
        located = load(yaml.safe_dump(merged(yaml.safe_load(BASE), {"train": train})))
        notes = asked(located, host, Hardware(gpu="t4")).values["notes"]
        assert any("has no bfloat16" in note for note in notes) is noted


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(7199.9, "2 h 00 min"), (3 * 86400 + 4 * 3600, "3 d 4 h"), (86400 * 2.999, "3 d 0 h"), (300, "5 min"),
     (100, "100 s"), (0.3, "below 1 s")],
)  # fmt: skip
def test_durations(seconds: float, said: str) -> None:
    """Nothing is 60 minutes or 24 hours."""
    assert duration(seconds) == said


class Card:
    """Stands in for torch's view of the GPU of this machine."""

    def __init__(self, name: str | None) -> None:
        """Take the driver's name of it; None for a machine without one."""
        self.name = name

    def is_available(self) -> bool:
        return self.name is not None

    def get_device_name(self, _: int) -> str | None:
        return self.name


@pytest.mark.torch
def test_calibration_corrects_the_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, load: Load, host: Host) -> None:
    """What was measured is kept, holds for later plans of such a model on such a GPU, and is said."""
    import torch

    from ctxkit_planner import corrections, measuring
    from ctxkit_planner.calibration import Calibration

    monkeypatch.setenv("CTXKIT_CACHE", str(tmp_path / "cache"))
    corrections._kept.cache_clear()
    measured: list[int] = []

    def here(config: Mapping[str, Any], setup: Any, tokens: int) -> tuple[Calibration, Path]:
        measured.append(tokens)
        return Calibration(2.0, 0.0, 0.0), tmp_path

    monkeypatch.setattr(measuring, "calibrate_here", here)
    located = load(yaml.safe_dump(merged(yaml.safe_load(BASE), {"launch": {"deepspeed": "zero3"}})))
    (before,) = asked(located, host).values["stages"]
    with monkeypatch.context() as patched:  # undone before anything between tests asks torch
        patched.setattr(torch, "cuda", Card("NVIDIA H100 80GB HBM3"))
        (after,) = asked(located, host, Hardware(gpu="h100-80gb", calibrate=True)).values["stages"]
    assert (before["calibrated"], after["calibrated"], measured) == (False, True, [16384])
    assert after["memory_bytes"]["activations"] == pytest.approx(2 * before["memory_bytes"]["activations"])
    assert after["largest_window"] < before["largest_window"]
    later = asked(located, host)
    assert later.values["stages"] == [after]
    assert "corrected by what was measured on such a GPU" in " ".join(later.text.split())
    assert not asked(located, host, Hardware(gpu="a100-80gb")).values["stages"][0]["calibrated"]
    corrections._kept.cache_clear()


@pytest.mark.torch
def test_calibration_needs_the_gpu_that_is_planned_for(monkeypatch: pytest.MonkeyPatch, load: Load, host: Host) -> None:
    """Another GPU than the plan's is named; without any it is one line."""
    import torch

    located = load(BASE)
    for card, said in (("Tesla T4", "which is Tesla T4, and the plan is for h100-80gb"), (None, "torch finds none")):
        with monkeypatch.context() as patched:
            patched.setattr(torch, "cuda", Card(card))
            with pytest.raises(CtxkitError, match=said):
                asked(located, host, Hardware(gpu="h100-80gb", calibrate=True))


def test_counts() -> None:
    """Parameters and tokens for a person."""
    assert [many(count) for count in (8.03e9, 13_600_000, 999)] == ["8.03 B", "13.6 M", "999"]
