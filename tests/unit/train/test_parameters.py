"""Counts of parameters against arithmetic on the shapes of a published model."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import PreTrainedModel, Qwen2Config, Qwen2ForCausalLM

from ctxkit.train.head import LM_HEAD_BIAS, with_head_bias
from ctxkit.train.parameters import count_parameters

LAYERS, HIDDEN, KEYS = 24, 896, 128
QWEN = Qwen2Config(
    vocab_size=151_936,
    hidden_size=HIDDEN,
    intermediate_size=4864,
    num_hidden_layers=LAYERS,
    num_attention_heads=14,
    num_key_value_heads=2,
    tie_word_embeddings=True,
)
"""The shapes of Qwen2.5-0.5B."""


@pytest.fixture
def model() -> PreTrainedModel:
    """The model without memory for its weights."""
    with torch.device("meta"):
        made: PreTrainedModel = Qwen2ForCausalLM(QWEN)
    return made


def test_all_weights(model: PreTrainedModel) -> None:
    """Without an adapter all 494,032,768 are trained, the tied embedding counted once."""
    assert str(count_parameters(model)) == "494,032,768 of 494,032,768 parameters (100.0000%)"


@pytest.mark.parametrize("rank", [8, 16])
def test_adapter_on_queries_and_values(rank: int, model: PreTrainedModel) -> None:
    """An adapter of rank r has r (in + out) weights a module: 540,672 for r = 8, not the 242,688 one reads of."""
    by_hand = LAYERS * rank * ((HIDDEN + HIDDEN) + (HIDDEN + KEYS))
    config = LoraConfig(r=rank, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    found = count_parameters(get_peft_model(model, config))
    assert found.trainable == by_hand == 540_672 * rank // 8
    assert found.total == 494_032_768 + by_hand


def test_bias_of_the_output_layer(model: PreTrainedModel) -> None:
    """A bias for each of 151,936 tokens beside an adapter of rank 8: 692,608; the embedding is tied and stays so."""
    lora = LoraConfig(r=8, target_modules=["q_proj", "v_proj"], modules_to_save=[LM_HEAD_BIAS], task_type="CAUSAL_LM")
    biased = get_peft_model(with_head_bias(model), lora)
    assert count_parameters(biased).trainable == 540_672 + 151_936 == 692_608
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
