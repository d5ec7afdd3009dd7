"""Without the mask that right padding does not need, loss and gradients are those with it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from torch.nn import functional
from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig, MixtralConfig, Qwen2Config
from trl import SFTConfig, SFTTrainer

from ctxkit.recipe import TokenizerTraining
from ctxkit.train.padding import without_mask
from ctxkit.train.tokenizer import byte_tokenizer

pytestmark = pytest.mark.torch

SHAPE: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
SHAPE |= {"num_key_value_heads": 2, "vocab_size": 258}
CONFIGS = {
    "llama": LlamaConfig(**SHAPE),
    "mistral": MistralConfig(**SHAPE, sliding_window=None),
    "mistral-window": MistralConfig(**SHAPE, sliding_window=8),
    "qwen2": Qwen2Config(**SHAPE),
    "qwen2-window": Qwen2Config(**SHAPE, use_sliding_window=True, sliding_window=8, max_window_layers=1),
}
WINDOWS = {"mistral-window": 2, "qwen2-window": 1}
"""Layers that have a mask in any case: that of their window."""
LENGTHS = (24, 17, 9)


def made(config: Any, folder: Path, *, adapter: bool = False, **more: Any) -> SFTTrainer:
    """Return TRL's trainer around a fresh model, on rows of unequal length."""
    torch.manual_seed(0)
    model: Any = AutoModelForCausalLM.from_config(
        copy.deepcopy(config), attn_implementation=more.pop("attention", "sdpa")
    )
    if adapter:
        model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj"]))
    rows = [torch.randint(0, 256, (length,)).tolist() for length in LENGTHS]
    kept = {"skip_prepare_dataset": True}
    plain = {"use_cpu": True, "bf16": False, "activation_checkpointing": False, "report_to": "none"}
    args = SFTConfig(output_dir=str(folder), dataset_kwargs=kept, max_length=24, **plain, **more)
    rows = Dataset.from_list([{"input_ids": row, "labels": row} for row in rows])
    tokenizer = byte_tokenizer(TokenizerTraining(vocab_size=258))
    return SFTTrainer(model=model, args=args, train_dataset=rows, processing_class=tokenizer)


def step(trainer: SFTTrainer) -> tuple[float, dict[str, torch.Tensor], list[torch.Tensor | None]]:
    """Return loss, gradients and the masks that reached torch's attention, of one batch of all rows."""
    masks: list[torch.Tensor | None] = []
    attend = functional.scaled_dot_product_attention

    def watched(*args: Any, attn_mask: torch.Tensor | None = None, **more: Any) -> torch.Tensor:
        masks.append(attn_mask)
        return attend(*args, attn_mask=attn_mask, **more)

    batch = trainer.data_collator([trainer.train_dataset[row] for row in range(len(LENGTHS))])
    assert "attention_mask" in batch
    torch.nn.functional.scaled_dot_product_attention = watched
    try:
        loss = trainer.compute_loss(trainer.model, dict(batch))
        loss.backward()
    finally:
        torch.nn.functional.scaled_dot_product_attention = attend
    gradients = {name: weight.grad for name, weight in trainer.model.named_parameters() if weight.grad is not None}
    return loss.item(), gradients, masks


@pytest.mark.parametrize("adapter", [False, True], ids=["all", "adapter"])
@pytest.mark.parametrize("name", CONFIGS)
def test_loss_and_gradients_stay(name: str, adapter: bool, tmp_path: Path) -> None:
    """For each architecture, with and without windows, and with an adapter, whose base has no hooks."""
    masked = step(made(CONFIGS[name], tmp_path, adapter=adapter))
    trainer = made(CONFIGS[name], tmp_path, adapter=adapter)
    assert without_mask(trainer, "here")
    bare = step(trainer)
    assert bare[0] == pytest.approx(masked[0], rel=1e-6)
    assert bare[1].keys() == masked[1].keys()
    assert all(torch.allclose(bare[1][key], masked[1][key], rtol=1e-4, atol=1e-7) for key in bare[1])
    assert all(mask is not None for mask in masked[2])
    assert sum(mask is not None for mask in bare[2]) == WINDOWS.get(name, 0)


@pytest.mark.parametrize(
    ("config", "more"),
    [
        (CONFIGS["llama"], {"attention": "eager"}),
        (CONFIGS["llama"], {"packing": True}),
        (
            MixtralConfig(**SHAPE, num_local_experts=2, num_experts_per_tok=1, output_router_logits=True),
            {"router_aux_loss_coef": 0.1},
        ),
    ],
    ids=["eager", "packed", "router"],
)
def test_other_masks_stay(config: Any, more: dict[str, Any], tmp_path: Path) -> None:
    """Where a mask is needed for more than padding, or costs nothing, nothing is changed."""
    assert not without_mask(made(config, tmp_path, **more), "here")


def test_rows_whose_positions_skip_keep_their_mask(tmp_path: Path) -> None:
    """Their collator says what they need."""
    trainer = made(CONFIGS["llama"], tmp_path)
    trainer.data_collator = dict
    assert not without_mask(trainer, "here")
