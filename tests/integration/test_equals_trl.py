"""ctxkit adds nothing to the numbers: a stage trains exactly as a script written by hand with TRL."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from transformers import LlamaConfig, LlamaForCausalLM, TrainerCallback, set_seed
from trl import SFTConfig, SFTTrainer

from ctxkit.train import run
from ctxkit.train.rows import open_rows
from tests.integration.micro import losses, weights

pytestmark = [pytest.mark.torch, pytest.mark.slow]


class Losses(TrainerCallback):
    """Collect what the trainer logs."""

    def __init__(self) -> None:
        self.found: dict[int, float] = {}

    def on_log(self, args, state, control, logs=None, **kwargs):
        if logs and "loss" in logs:
            self.found[state.global_step] = logs["loss"]


def plain_rows(folder: Path) -> Dataset:
    """The rows that a stage trained on, written out as a script would have them."""
    prepared = open_rows(folder)
    assert prepared is not None
    return Dataset.from_list([{name: ids.tolist() for name, ids in row.items()} for row in prepared.train])


def by_hand(rows: Dataset, tokenizer_folder: Path, output: Path, model: LlamaForCausalLM, steps: int):
    """Train as one would without ctxkit."""
    from transformers import AutoTokenizer

    collected = Losses()
    args = SFTConfig(
        output_dir=str(output), use_cpu=True, bf16=False, activation_checkpointing=False, seed=3, max_steps=steps,
        per_device_train_batch_size=4, learning_rate=1e-2, logging_steps=1, save_strategy="no", max_length=64,
        dataset_kwargs={"skip_prepare_dataset": True},
    )  # fmt: skip
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    trainer = SFTTrainer(model=model, args=args, train_dataset=rows, processing_class=tokenizer, callbacks=[collected])
    trainer.train()
    return collected.found, trainer.model


def test_losses_and_weights_equal_a_trl_script(recipe: Path, tmp_path: Path) -> None:
    """Losses and final weights of the first two trainings equal those of a script, number for number."""
    directory = run(recipe, tmp_path / "run")
    logged = losses(directory.path)
    config = LlamaConfig(
        vocab_size=258, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=32, tie_word_embeddings=True, bos_token_id=None, eos_token_id=0,
        pad_token_id=1, rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
    )  # fmt: skip
    set_seed(3)
    model = LlamaForCausalLM(config)
    records = {name: json.loads(directory.stage_record(name).read_text()) for name in ("base", "yarn")}
    rows = plain_rows(directory.data(records["base"]["data"]))
    found, model = by_hand(rows, directory.tokenizer, tmp_path / "by_hand", model, 8)
    assert found == {step: logged["base", step] for step in range(1, 9)}
    model.save_pretrained(tmp_path / "base")
    config = LlamaConfig.from_pretrained(tmp_path / "base")
    config.rope_parameters = {
        "rope_type": "yarn", "rope_theta": 10000.0, "factor": 2.0, "original_max_position_embeddings": 32,
        "beta_fast": 32.0, "beta_slow": 1.0,
    }  # fmt: skip
    config.max_position_embeddings = 64
    extended = LlamaForCausalLM.from_pretrained(tmp_path / "base", config=config, dtype=torch.float32)
    rows = plain_rows(directory.data(records["yarn"]["data"]))
    found, model = by_hand(rows, directory.tokenizer, tmp_path / "by_hand", extended, 4)
    assert found == {step: logged["yarn", step] for step in range(1, 5)}
    model.save_pretrained(tmp_path / "yarn")
    ours, theirs = weights(directory.model("yarn")), weights(tmp_path / "yarn")
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
