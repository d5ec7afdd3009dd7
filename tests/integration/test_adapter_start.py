"""A trained adapter that a recipe starts with: merged, gone on with, with its RoPE, or refused with the reason."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from ctxkit.errors import CtxkitError, RecipeError, ResumeError
from ctxkit.identity import ADAPTER_BESIDE
from ctxkit.recipe import ModelSection, TokenizerTraining
from ctxkit.rundir import RunDirectory, read_json, write_json
from ctxkit.train import run
from ctxkit.train.rope import ExtendedRope, check_rope
from ctxkit.train.start import start_adapter
from ctxkit.train.tokenizer import byte_tokenizer
from tests.conftest import Faults

pytestmark = pytest.mark.torch

LORA = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]}
ADAPTER = "{r: 4, lora_alpha: 8, target_modules: [v_proj, q_proj]}"
YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 2.0, "original_max_position_embeddings": 32}
IDS = torch.arange(3, 60)[None]


def config(**over: object) -> LlamaConfig:
    """A llama of 258 tokens and a window of 32."""
    small = {"vocab_size": 258, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 32}
    return LlamaConfig(**{**small, **heads, "tie_word_embeddings": True, "eos_token_id": 1, **over})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model, an adapter that peft made beside it at twice its window, and a recipe that starts with both."""
    torch.manual_seed(0)
    model = LlamaForCausalLM(config())
    model.save_pretrained(tmp_path / "model")
    byte_tokenizer(TokenizerTraining(vocab_size=258)).save_pretrained(tmp_path / "model")
    wrapped = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **LORA))  # type: ignore[arg-type]
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    wrapped.save_pretrained(tmp_path / "adapter")
    config(rope_parameters=YARN, max_position_embeddings=64).save_pretrained(tmp_path / "adapter")
    (tmp_path / "recipe.yaml").write_text(
        f"name: go\nmodel: {{name_or_path: {tmp_path}/model, adapter_name_or_path: {tmp_path}/adapter}}\n"
        "data: {sources: [{kind: repeats, documents: 40, length: 63}], chunker: {kind: overlap, length: 64}}\n"
        "train: {max_steps: 2, learning_rate: 0.01, per_device_train_batch_size: 2, bf16: false, "
        "activation_checkpointing: false, logging_steps: 1, save_steps: 2}\n"
        "stages: [{name: first}]\n"
    )
    return tmp_path


def by_hand(folder: Path, adapter: Path) -> torch.Tensor:
    """Return the logits of the model with an adapter by peft alone, the RoPE that of the adapter's config."""
    model = AutoModelForCausalLM.from_pretrained(folder / "model", config=AutoConfig.from_pretrained(adapter))
    with torch.no_grad():
        return PeftModel.from_pretrained(model, adapter)(input_ids=IDS).logits


def started(folder: Path, *sets: str) -> RunDirectory:
    """Run the recipe."""
    return run(folder / "recipe.yaml", folder / "run", sets)


def test_merged_where_no_adapter_is_trained(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A stage of no steps saves model and adapter in one, with the RoPE of the adapter, which is said."""
    made = started(folder, "train.max_steps=0").model("first")
    model = AutoModelForCausalLM.from_pretrained(made)
    assert (model.config.rope_parameters["factor"], model.config.max_position_embeddings) == (2.0, 64)
    with torch.no_grad():
        torch.testing.assert_close(model(input_ids=IDS).logits, by_hand(folder, folder / "adapter"))
    said = capsys.readouterr().err
    assert "RoPE yarn, factor 2, rope_theta 10000 and a window of 64 tokens: that RoPE holds until a stage" in said


def test_rope_of_the_adapter_is_proved() -> None:
    """A model that rotates otherwise than the adapter's config says is not used."""
    asked = ExtendedRope(None, 32, 64, config(rope_parameters=YARN, max_position_embeddings=64))
    check_rope(LlamaForCausalLM(asked.base), asked)
    with pytest.raises(CtxkitError, match="with the RoPE of the adapter"):
        check_rope(LlamaForCausalLM(config()), asked)


def test_gone_on_with(folder: Path) -> None:
    """A stage of the same adapter begins with its weights; one that scales, scales the model's own RoPE."""
    yarn = "{name: second, rope: {kind: yarn, factor: 4}, train: {max_steps: 2}}"
    stages = f"stages=[{{name: first, train: {{max_steps: 0}}}}, {yarn}]"
    directory = started(folder, f"adapter={ADAPTER}", stages)
    before = load_file(folder / "adapter/adapter_model.safetensors")
    kept = load_file(directory.model("first") / "adapter_model.safetensors")
    trained = load_file(directory.model("second") / "adapter_model.safetensors")
    for name, tensor in before.items():
        torch.testing.assert_close(kept[name], tensor)
        assert not torch.equal(trained[name], tensor)
        assert torch.nn.functional.cosine_similarity(trained[name].flatten(), tensor.flatten(), 0) > 0.9
    assert AutoConfig.from_pretrained(directory.model("first")).rope_parameters == YARN
    assert AutoConfig.from_pretrained(directory.model("second")).rope_parameters["factor"] == 4.0
    torch.testing.assert_close(by_hand(folder, directory.model("first")), by_hand(folder, folder / "adapter"))


def test_measured_first_with_the_adapter(folder: Path) -> None:
    """What the recipe starts with is the model with its adapter: its perplexity is that of a merge by hand."""
    evals = "evals=[{kind: perplexity, source: {kind: repeats, documents: 9, length: 70}, lengths: [64], windows: 4}]"
    with_it = started(folder, evals, "train.max_steps=0")
    merged = with_it.path / "evals"
    first, model = (read_json(merged / name / "0-perplexity.json")["measurements"] for name in ("first", "model"))
    assert first == model
    plain = run(
        folder / "recipe.yaml", folder / "plain", (evals, "train.max_steps=0", "model.adapter_name_or_path=null")
    )
    assert read_json(plain.path / "evals/model/0-perplexity.json")["measurements"] != model
    record = read_json(with_it.stage_record("model"))
    assert record["length"] == 64


def test_another_adapter_in_an_old_directory(folder: Path) -> None:
    """A run whose adapter has other weights now is not continued."""
    started(folder, "train.max_steps=0")
    file = folder / "adapter/adapter_model.safetensors"
    save_file({name: tensor * 1.5 for name, tensor in load_file(file).items()}, file)
    with pytest.raises(ResumeError, match=r"the content of model.adapter_name_or_path changed"):
        started(folder, "train.max_steps=0")


def test_another_shape(folder: Path) -> None:
    """Each field that differs is named at its place."""
    with pytest.raises(RecipeError) as caught:
        started(folder, "adapter={r: 8, use_dora: true, target_modules: [q_proj]}")
    assert {fault.dotted.rpartition(".")[2] for fault in caught.value.faults} == {"r", "use_dora", "target_modules"}
    (rank,) = [fault for fault in caught.value.faults if fault.dotted.endswith(".r")]
    assert rank.message.startswith("is 8, and 4 in the adapter")


@pytest.mark.parametrize("what", ["nothing", "no adapter", "another architecture", "another size"])
def test_refused(what: str, folder: Path) -> None:
    """What is no adapter, or none of this model, is refused in words."""
    said = {
        "nothing": "there is no folder of this name",
        "no adapter": "it has no adapter_config.json",
        "another architecture": "was trained beside a mistral",
        "another size": "does not fit the model",
    }
    if what == "nothing":
        shutil.rmtree(folder / "adapter")
    elif what == "no adapter":
        (folder / "adapter/adapter_config.json").unlink()
    elif what == "another architecture":
        file = folder / "adapter/config.json"
        file.write_text(file.read_text().replace('"model_type": "llama"', '"model_type": "mistral"'))
    else:
        LlamaForCausalLM(config(hidden_size=64, head_dim=16)).save_pretrained(folder / "model")
    with pytest.raises(CtxkitError, match=said[what]) as caught:
        started(folder, "train.max_steps=0")
    assert caught.value.exit_code == 2


def cut(name: str, size: int) -> Callable[[Path], None]:
    """Return what cuts a file of an adapter."""
    return lambda adapter: os.truncate(adapter / name, size)


def written(name: str, text: str) -> Callable[[Path], Any]:
    """Return what writes other content into a file of an adapter."""
    return lambda adapter: (adapter / name).write_text(text)


def pickled(adapter: Path) -> None:
    """Cut weights that are no safetensors."""
    (adapter / "adapter_model.safetensors").unlink()
    (adapter / "adapter_model.bin").write_bytes(b"PK")


DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no weights": (
        lambda adapter: (adapter / "adapter_model.safetensors").unlink(),
        "it has neither adapter_model.safetensors nor adapter_model.bin",
    ),
    "weights cut": (cut("adapter_model.safetensors", 100), "adapter_model.safetensors cannot be read: Safetensor"),
    "a tensor cut": (cut("adapter_model.safetensors", 2000), "adapter_model.safetensors cannot be read: Safetensor"),
    "weights empty": (cut("adapter_model.safetensors", 0), "adapter_model.safetensors cannot be read: Safetensor"),
    "pickle cut": (pickled, "adapter_model.bin cannot be read"),
    "shape cut": (cut("adapter_config.json", 9), "adapter_config.json cannot be read: JSONDecodeError"),
    "shape a list": (written("adapter_config.json", "[]"), "adapter_config.json cannot be read: TypeError"),
    "shape of no kind": (written("adapter_config.json", "{}"), "adapter_config.json names no peft_type"),
    "shape of a new kind": (written("adapter_config.json", '{"peft_type": "NEW"}'), "cannot be read: KeyError: 'NEW'"),
    "config cut": (cut("config.json", 9), "config.json cannot be read: OSError"),
    "config of no model": (written("config.json", "{}"), "config.json cannot be read: ValueError"),
    "config a list": (written("config.json", "[]"), "config.json cannot be read"),
}


@pytest.mark.parametrize("damage", list(DAMAGE))
def test_damaged(damage: str, folder: Path) -> None:
    """The file is named, with what is wrong with it, before anything is trained."""
    spoil, said = DAMAGE[damage]
    spoil(folder / "adapter")
    base = AutoConfig.from_pretrained(folder / "model")
    with pytest.raises(CtxkitError, match=said) as caught:
        start_adapter(section(folder), base, 32)
    assert caught.value.exit_code == 2
    assert caught.value.message.startswith(f"the adapter {folder}/adapter is damaged: ")


def section(folder: Path) -> ModelSection:
    """Return the section of a recipe that starts with the model and the adapter."""
    return ModelSection(name_or_path=str(folder / "model"), adapter_name_or_path=str(folder / "adapter"))


def test_trained_beside_another_model(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A name that is not the model's is said, and no other."""
    file = folder / "adapter/adapter_config.json"
    base = AutoConfig.from_pretrained(folder / "model")
    written = read_json(file)
    for name, noted in ((str(folder / "model/"), False), (None, False), ("some/other", True)):
        write_json(file, {**written, "base_model_name_or_path": name})
        start_adapter(section(folder), base, 32)
        assert ("was trained beside some/other, and model.name_or_path is" in capsys.readouterr().err) == noted


def test_trained_beside_merged_adapters(folder: Path) -> None:
    """An adapter of merged weights means nothing beside the plain ones; the stage that saves the whole does."""
    more = "parent_adapter: merge, adapter: {r: 2, target_modules: [k_proj]}"
    stages = (
        f"stages=[{{name: first}}, {{name: second, {more}}}, {{name: third, adapter: {{r: 2, "
        "target_modules: [k_proj]}}, {name: whole, adapter: null}]"
    )
    chain = run(
        folder / "recipe.yaml",
        folder / "chain",
        ("model.adapter_name_or_path=null", f"adapter={ADAPTER}", "train.max_steps=0", stages),
    )
    for stage in ("second", "third"):
        beside = PeftConfig.from_pretrained(str(chain.model(stage))).base_model_name_or_path
        assert beside == f"{folder}/model with the adapter of first merged"
    assert not (chain.model("first") / ADAPTER_BESIDE).exists()
    shutil.rmtree(folder / "adapter")
    shutil.copytree(chain.model("third"), folder / "adapter")
    with pytest.raises(CtxkitError, match="with the adapter of first merged: beside the plain weights") as caught:
        started(folder, "train.max_steps=0")
    assert caught.value.exit_code == 2
    assert "max_steps: 0" in caught.value.hint
    # Our own file says it, whatever name somebody gave the weights; where it was not copied, the name does.
    shape = read_json(folder / "adapter/adapter_config.json")
    write_json(folder / "adapter/adapter_config.json", {**shape, "base_model_name_or_path": "some/model"})
    with pytest.raises(CtxkitError, match="those merged adapters are missing"):
        started(folder, "train.max_steps=0")
    write_json(folder / "adapter/adapter_config.json", shape)
    (folder / "adapter" / ADAPTER_BESIDE).unlink()
    with pytest.raises(CtxkitError, match="those merged adapters are missing"):
        started(folder, "train.max_steps=0")
    whole = (f"model.name_or_path={chain.model('whole')}", "model.adapter_name_or_path=null", "train.max_steps=0")
    run(folder / "recipe.yaml", folder / "again", whole)


def test_an_adapter_that_names_no_rope(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What peft alone saved is taken to be trained with the model's own RoPE, and that is said."""
    (folder / "adapter/config.json").unlink()
    made = started(folder, "train.max_steps=0").model("first")
    assert "names no RoPE" in capsys.readouterr().err
    assert AutoConfig.from_pretrained(made).rope_parameters["rope_type"] == "default"


def test_beside_a_fresh_model(faults: Faults, minimal: str) -> None:
    """Random weights have no adapter that was trained beside them."""
    fresh = minimal.replace("name_or_path: some/model", "config: {model_type: llama}, adapter_name_or_path: x")
    found = faults(fresh, "tokenizer={train: {vocab_size: 300}}")
    assert [fault.dotted for fault in found] == ["model.adapter_name_or_path"]
