"""The planner's shapes and parameters against transformers' and peft's own models, on the meta device."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM

from ctxkit.errors import CtxkitError, ExitCode
from ctxkit_planner.families import FAMILIES
from ctxkit_planner.parameters import parameters
from ctxkit_planner.setup import Adapter
from ctxkit_planner.shape import shape_of

pytestmark = pytest.mark.torch

SMALL = {
    "vocab_size": 96,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
}
BIASED = {"attention_bias": True, "mlp_bias": True, "use_bias": True, "qkv_bias": True}
"""Every key by which an architecture asks for biases."""
SPARSE = {
    "num_experts": 4,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 24,
    "shared_expert_intermediate_size": 40,
    "decoder_sparse_step": 2,
    "mlp_only_layers": [1],
}
TYPES = sorted(FAMILIES)


def build(model_type: str, **keys: object) -> torch.nn.Module:
    """Return the model of transformers on the meta device, which costs no memory."""
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **keys))


def count(model: torch.nn.Module) -> int:
    """Return the elements of all parameters; a tied one counts once."""
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("model_type", TYPES)
def test_a_configuration_without_keys_has_the_defaults_of_its_class(model_type: str) -> None:
    """Full-size models of every known architecture have the parameters that transformers builds."""
    config = AutoConfig.for_model(model_type)
    assert parameters(shape_of({"model_type": model_type})).base == count(build(model_type))
    assert shape_of({"model_type": model_type}) == shape_of(config.to_dict())


@pytest.mark.parametrize("model_type", TYPES)
@pytest.mark.parametrize(
    "keys",
    [{}, BIASED, SPARSE, {"tie_word_embeddings": True}, {"head_dim": 16}],
    ids=["plain", "biased", "sparse", "tied", "heads"],
)
def test_parameters_are_those_of_transformers(model_type: str, keys: dict[str, object]) -> None:
    """Biases, experts, tied embeddings and head sizes count as in the model that transformers builds."""
    written = {**SMALL, **keys}
    if model_type in {"phi3", "gpt_neox"}:
        written.pop("head_dim", None)  # it takes the quotient
    assert parameters(shape_of({"model_type": model_type, **written})).base == count(build(model_type, **written))


ADAPTERS = [
    Adapter(r=3),
    Adapter(r=3, use_dora=True),
    Adapter(r=2, target_modules=("v_proj", "qkv_proj", "query_key_value", "down_proj", "c_proj", "dense_4h_to_h")),
    Adapter(r=2, target_modules=r".*\.[01]\..*(v_proj|qkv_proj|query_key_value)"),
    Adapter(r=2, exclude_modules=("o_proj", "dense"), modules_to_save=("embed_tokens", "embed_in", "norm")),
    Adapter(r=2, target_modules=("embed_tokens", "embed_in", "v_proj", "query_key_value", "qkv_proj")),
]


@pytest.mark.parametrize("model_type", TYPES)
@pytest.mark.parametrize("adapter", ADAPTERS, ids=range(len(ADAPTERS)))
def test_an_adapter_has_the_parameters_that_peft_trains(model_type: str, adapter: Adapter) -> None:
    """Peft's own count of trainable parameters, for lists, expressions, all-linear, DoRA and modules_to_save."""
    if adapter.use_dora and FAMILIES[model_type].expert_names:
        pytest.skip("peft refuses DoRA beside stacked experts")
    asked = adapter.target_modules
    written = {**SMALL, **SPARSE, "tie_word_embeddings": False, "num_hidden_layers": 4}
    model = build(model_type, **written)
    ends = {name.rpartition(".")[2] for name, _ in model.named_modules()}
    saved = [name for name in adapter.modules_to_save if any(end.endswith(name) for end in ends)]
    config = LoraConfig(
        r=adapter.r,
        target_modules=asked if isinstance(asked, str) else list(asked),
        exclude_modules=list(adapter.exclude_modules) or None,
        modules_to_save=saved or None,
        use_dora=adapter.use_dora,
        task_type="CAUSAL_LM",
    )
    trainable, _ = get_peft_model(model, config).get_nb_trainable_parameters()
    assert parameters(shape_of({"model_type": model_type, **written}), adapter).trainable == trainable


def test_an_unknown_architecture_is_named_with_those_that_are_known() -> None:
    """What cannot be planned is refused, and says what can."""
    with pytest.raises(CtxkitError, match=r"'mamba2'.*not known\nknown types: gemma, ") as caught:
        shape_of({"model_type": "mamba2"})
    assert caught.value.exit_code is ExitCode.RECIPE


@pytest.mark.parametrize("model_type", TYPES)
def test_windows_are_those_of_the_layer_types(model_type: str) -> None:
    """The layers with a sliding window are those of the configuration of transformers."""
    config = AutoConfig.for_model(model_type, use_sliding_window=True, sliding_window=128, num_hidden_layers=40)
    listed = None if model_type in {"qwen2_moe", "smollm3"} else getattr(config, "layer_types", None)
    shape = shape_of(
        {"model_type": model_type, "sliding_window": 128, "num_hidden_layers": 40, "use_sliding_window": True}
    )
    if listed is not None:
        assert shape.window_layers == listed.count("sliding_attention")
    assert (shape.window == 128) == bool(shape.window_layers)


def test_a_model_that_sees_images_is_planned_by_its_language_model() -> None:
    """The text part of a nested configuration decides."""
    text = {"model_type": "gemma3_text", "hidden_size": 64}
    assert shape_of({"model_type": "gemma3", "text_config": text}) == shape_of(text)
