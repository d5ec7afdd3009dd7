"""The RoPE scalers against the rotary buffers that transformers makes of their configs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import numpy as np
import pytest

from ctxkit.errors import CtxkitError
from ctxkit_rope.linear import LinearScaler
from ctxkit_rope.yarn import YarnScaler

if TYPE_CHECKING:
    from pathlib import Path

    from ctxkit.spec import RopeScaler

pytestmark = pytest.mark.torch

SIZES: dict[str, Any] = {
    "vocab_size": 16,
    "hidden_size": 32,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}
FLOAT32 = 2e-6  # relative; a few roundings of float32 on the way to a buffer

SCALERS: list[RopeScaler] = [
    LinearScaler(original_max_position_embeddings=128, target_length=512),
    YarnScaler(original_max_position_embeddings=128, target_length=512),
    YarnScaler(original_max_position_embeddings=128, target_length=1_024, beta_fast=8, truncate=False),
    YarnScaler(original_max_position_embeddings=128, target_length=512, attention_factor=1.25),
]
each = pytest.mark.parametrize("scaler", SCALERS, ids=["linear", "yarn", "yarn exact ramp", "yarn attention"])
FAMILIES = [
    ("llama", {}),
    ("mistral", {"sliding_window": None}),
    ("qwen2", {}),
    ("phi", {"partial_rotary_factor": 0.5}),
]


def tiny(model_type: str, theta: float = 10_000.0, **fields: Any) -> Any:
    """Return a small config of the family."""
    from transformers import AutoConfig

    rope = {"rope_type": "default", "rope_theta": theta}
    return AutoConfig.for_model(model_type, **SIZES, rope_parameters=rope, **fields)


def rotary(config_or_model: Any) -> Any:
    """Return the rotary module of a model, or of one newly made from a config."""
    from transformers import PreTrainedModel

    model = config_or_model if isinstance(config_or_model, PreTrainedModel) else made_of(config_or_model)
    return model.model.rotary_emb


def made_of(config: Any) -> Any:
    """Return a model with random weights."""
    from transformers import AutoModelForCausalLM

    auto: Any = AutoModelForCausalLM
    return auto.from_config(config)


@each
@pytest.mark.parametrize("theta", [10_000.0, 500_000.0])
@pytest.mark.parametrize(("family", "fields"), FAMILIES, ids=[name for name, _ in FAMILIES])
def test_buffers(scaler: RopeScaler, family: str, fields: dict[str, Any], theta: float) -> None:
    """A model made from the scaled config holds the promised frequencies, for its own theta."""
    config = tiny(family, theta, **fields)
    scaler(config)
    assert config.rope_parameters["rope_theta"] == theta
    buffers = rotary(config)
    promised = scaler.frequencies(2 * len(buffers.inv_freq), theta, 512)
    assert len(buffers.inv_freq) == 16 * fields.get("partial_rotary_factor", 1) / 2
    np.testing.assert_allclose(buffers.inv_freq.numpy(), promised.inv_freq, rtol=FLOAT32)
    assert buffers.attention_scaling == pytest.approx(promised.attention_scaling, rel=1e-12)


@each
def test_saved_and_loaded(scaler: RopeScaler, tmp_path: Path) -> None:
    """A model that was saved comes back with the same buffers, attention scaling, theta and window."""
    from transformers import AutoModelForCausalLM

    config = tiny("llama", 500_000.0)
    scaler(config)
    model = made_of(config)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert rotary(loaded).inv_freq.equal(rotary(model).inv_freq)
    assert rotary(loaded).attention_scaling == rotary(model).attention_scaling
    assert loaded.config.rope_parameters == config.rope_parameters
    assert loaded.config.max_position_embeddings == config.max_position_embeddings


@each
def test_extended_model_is_extended_again(scaler: RopeScaler, tmp_path: Path) -> None:
    """A second stage that starts from a saved, extended model ends where one stage would have."""
    from transformers import AutoConfig

    first, direct = tiny("llama", 500_000.0), tiny("llama", 500_000.0)
    YarnScaler(original_max_position_embeddings=128, target_length=256)(first)
    first.save_pretrained(tmp_path)
    second = AutoConfig.from_pretrained(tmp_path)
    scaler(second)
    scaler(direct)
    assert second.rope_parameters == direct.rope_parameters
    assert second.max_position_embeddings == direct.max_position_embeddings
    assert rotary(second).inv_freq.equal(rotary(direct).inv_freq)


@each
def test_transformers_has_no_complaint(scaler: RopeScaler, monkeypatch: pytest.MonkeyPatch) -> None:
    """The written parameters pass transformers' own check without a warning."""
    from transformers import modeling_rope_utils

    log = Mock()
    monkeypatch.setattr(modeling_rope_utils, "logger", log)
    config = tiny("llama")
    scaler(config)
    config.standardize_rope_params()
    config.validate_rope()
    assert log.mock_calls == []


@pytest.mark.parametrize(
    ("model_type", "fields", "reason"),
    [
        ("phi3", {"pad_token_id": 0}, "only longrope"),
        ("mistral", {"sliding_window": 256}, "last 256 tokens"),
        ("starcoder2", {"sliding_window": 256}, "last 256 tokens"),
        ("qwen2", {"use_sliding_window": True, "sliding_window": 64, "max_window_layers": 0}, "last 64 tokens"),
    ],
)
def test_real_configs_refused(model_type: str, fields: dict[str, Any], reason: str) -> None:
    """Configs of families that cannot take the change are recognised as transformers makes them."""
    with pytest.raises(CtxkitError, match=reason):
        SCALERS[0](tiny(model_type, **fields))


def test_config_without_rope() -> None:
    """GPT-2, which has learned positions, is recognised."""
    from transformers import GPT2Config

    with pytest.raises(CtxkitError, match="no rope_parameters"):
        SCALERS[0](GPT2Config())
