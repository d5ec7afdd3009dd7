"""Losses in pieces are those of the whole row, also where the rotary frequencies depend on the length."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ctxkit_evals import likelihood

pytestmark = pytest.mark.torch

SCALED: dict[str, dict[str, Any]] = {
    "default": {"rope_type": "default"},
    "yarn": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32},
    "dynamic": {"rope_type": "dynamic", "factor": 4.0},
    "longrope": {
        "rope_type": "longrope", "factor": 4.0, "original_max_position_embeddings": 32,
        "short_factor": [1.0] * 8, "long_factor": [1.2, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0],
    },
}  # fmt: skip


@pytest.mark.parametrize("nested", [False, True], ids=["flat", "by layer type"])
@pytest.mark.parametrize("kind", SCALED)
def test_pieces(kind: str, nested: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row of 80 tokens in pieces of 16 has the losses of one forward, from a window of 32 tokens."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    rope = {"rope_theta": 1e4, **SCALED[kind]}
    layers = {"full_attention": rope, "sliding_attention": {"rope_type": "default", "rope_theta": 1e4}}
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        "gemma3_text" if nested else "llama",
        vocab_size=32, hidden_size=32, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, head_dim=16, max_position_embeddings=32 if kind == "dynamic" else 128,
        rope_parameters=layers if nested else rope, **({"layer_types": [*layers]} if nested else {}),
    )  # fmt: skip
    model: Any = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    for weight in model.parameters():
        weight.data.mul_(4)  # so that attention is sharp, and another rotation shows
    row = torch.randint(0, 32, (80,)).tolist()
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([row]), use_cache=False).logits[0, :-1]
        whole = torch.nn.functional.cross_entropy(logits, torch.tensor(row[1:]), reduction="none").double().numpy()
        monkeypatch.setattr(likelihood, "LOGITS", 16)
        pieces = likelihood.token_losses(model, [row], 79)[0]
    np.testing.assert_allclose(pieces, whole, rtol=1e-4, atol=1e-4)
