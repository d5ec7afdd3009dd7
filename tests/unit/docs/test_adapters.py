"""The counts that the page on adapters quotes, against peft on models of the published shapes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
import yaml
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, Qwen2Config, Qwen2ForCausalLM

from ctxkit.train.head import LM_HEAD_BIAS, with_head_bias
from ctxkit.train.parameters import count_parameters

pytestmark = pytest.mark.torch

PAGE = Path(__file__).parents[3] / "docs" / "adapters.md"
HEAD = r"# (?P<name>[^:]+): (?P<count>[\d,]+) parameters of (?P<model>\S+)"
QUOTED = re.compile(rf"```yaml\n{HEAD}\n(?P<text>.*?)```", re.DOTALL)
PRESETS = {match["name"]: match for match in QUOTED.finditer(PAGE.read_text())}
QWEN = {"vocab_size": 151_936, "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24}
QWEN |= {"num_attention_heads": 14, "num_key_value_heads": 2, "tie_word_embeddings": True}


def model(name: str) -> PreTrainedModel:
    """Return a model of the shape of a published one, without memory for its weights."""
    with torch.device("meta"):
        if name == "Qwen2.5-0.5B":
            return Qwen2ForCausalLM(Qwen2Config(**QWEN))  # type: ignore[arg-type]
        newer = name == "Llama-3.1-8B"
        more = {"intermediate_size": 14336, "num_key_value_heads": 8, "vocab_size": 128_256} if newer else {}
        return LlamaForCausalLM(LlamaConfig(hidden_size=4096, **more))  # type: ignore[arg-type]


def test_every_preset_is_found() -> None:
    """None is left out because it is written otherwise."""
    assert len(PRESETS) == PAGE.read_text().count(" parameters of ") == 7


@pytest.mark.parametrize("name", PRESETS)
def test_count(name: str) -> None:
    """What the page says is what peft makes of the fields."""
    preset = PRESETS[name]
    recipe = yaml.safe_load(preset["text"])
    fields, whole = recipe["adapter"], model(preset["model"])
    if recipe.get("model", {}).get("lm_head_bias"):
        whole = with_head_bias(whole)
        fields["modules_to_save"] = [LM_HEAD_BIAS]
    found = count_parameters(get_peft_model(whole, LoraConfig(task_type="CAUSAL_LM", **fields)))
    assert f"{found.trainable:,}" == preset["count"]
