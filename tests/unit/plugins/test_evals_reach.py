"""A length beyond the positions that a model has learned fails as one cell, whatever the device."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, OPTConfig, OPTForCausalLM

from ctxkit.errors import CtxkitError
from ctxkit_evals.greedy import Reader
from ctxkit_evals.likelihood import token_losses
from ctxkit_evals.reach import learned_positions

pytestmark = pytest.mark.torch

GPT2 = GPT2LMHeadModel(GPT2Config(vocab_size=50, n_embd=16, n_layer=1, n_head=2, n_positions=24)).eval()
OPT = OPTForCausalLM(
    OPTConfig(vocab_size=50, hidden_size=16, ffn_dim=32, num_hidden_layers=1, num_attention_heads=2,
              max_position_embeddings=24, word_embed_proj_dim=16)
).eval()  # fmt: skip
SMALL = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
LLAMA = LlamaForCausalLM(LlamaConfig(vocab_size=50, max_position_embeddings=24, **SMALL)).eval()


@pytest.mark.parametrize("model", [GPT2, OPT], ids=["gpt2", "opt"])
def test_learned_positions_end(model: Any) -> None:
    """Transformers itself reads as many tokens as that, and no more; so do the evals, with a reason."""
    assert learned_positions(model) == 24
    with torch.no_grad():
        model(torch.ones(1, 24, dtype=torch.long))
        with pytest.raises((IndexError, RuntimeError)):
            model(torch.ones(1, 25 if model is GPT2 else 27, dtype=torch.long))
        Reader(model).read([[1] * 24])
        token_losses(model, [[1] * 24], 5)
        reader = Reader(model)
        reader.read([[1] * 20])
        with pytest.raises(CtxkitError, match="learned 24 positions, and 25 tokens"):
            reader.read([[1] * 5])
        with pytest.raises(CtxkitError, match="learned 24 positions, and 25 tokens"):
            token_losses(model, [[1] * 25], 5)


def test_rotary_positions_do_not() -> None:
    """A Llama is read beyond its window: that is the point."""
    assert learned_positions(LLAMA) is None
    with torch.no_grad():
        assert Reader(LLAMA).read([[1] * 40]).shape == (1, 1, 50)
