"""What each architecture of transformers is made of, as its own configuration class and modules have it."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, kw_only=True)
class Family:
    """One architecture: where its modules lie, and the defaults of its configuration class.

    A layer holds `norms` norms of the hidden size under `layer_norms`; a norm has a bias where `norm_bias`, and no
    parameters at all where the names are empty.
    """

    defaults: Mapping[str, Any]
    qkv: tuple[str, ...] = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
    """The projections of query, key and value; a single name holds all three in one matrix."""
    output: str = "self_attn.o_proj"
    mlp_in: tuple[str, ...] = ("mlp.gate_proj", "mlp.up_proj")
    """The projections into the feed-forward part: gate and up, both in one, or one without a gate."""
    mlp_out: str = "mlp.down_proj"
    gated: bool = True
    qkv_bias: str | bool = "attention_bias"
    """The key of the configuration that decides on the bias, or the answer itself."""
    output_bias: str | bool = "attention_bias"
    mlp_bias: str | bool = "mlp_bias"
    qk_norm: str = "none"
    """`head`: a norm over each head of query and key; `full`: one over all of their heads."""
    layer_norms: tuple[str, ...] = ("input_layernorm", "post_attention_layernorm")
    final_norm: str = "norm"
    norm_bias: bool = False
    backbone: str = "model"
    embedding: str = "embed_tokens"
    grouped: bool = True
    """Whether the number of heads of keys and values is a key of its own."""
    experts_key: str = ""
    expert_size_key: str = ""
    expert_names: tuple[str, ...] = ()
    """The names that peft rewrites to the experts' stacked parameters; () where it adapts linear layers alone."""
    sliding: str = "none"
    """Which layers attend to a window (`sliding_window`) where `layer_types` does not say: `all`, `asked` (where
    `use_sliding_window`, from `max_window_layers` on), `1 of 2`, `3 of 4`, `5 of 6`, or `none`."""


_LLAMA = {
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
}
_QWEN = {
    "vocab_size": 151936,
    "hidden_size": 4096,
    "intermediate_size": 22016,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "sliding_window": 4096,
    "max_window_layers": 28,
}
_QWEN_MOE = {
    **_QWEN,
    "hidden_size": 2048,
    "num_hidden_layers": 24,
    "decoder_sparse_step": 1,
}
_MISTRAL = {**_LLAMA, "intermediate_size": 14336, "num_key_value_heads": 8}
_GEMMA = {
    "vocab_size": 256000,
    "hidden_size": 3072,
    "intermediate_size": 24576,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "head_dim": 256,
    "tie_word_embeddings": True,
}
_GEMMA2 = {
    **_GEMMA,
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 26,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "sliding_window": 4096,
}
_OLMO = {**_LLAMA, "vocab_size": 50304}
_SANDWICH = (
    "input_layernorm",
    "post_attention_layernorm",
    "pre_feedforward_layernorm",
    "post_feedforward_layernorm",
)
_AFTER = ("post_attention_layernorm", "post_feedforward_layernorm")

FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "llama": Family(defaults=_LLAMA),
        "mistral": Family(
            defaults={**_MISTRAL, "sliding_window": 4096},
            qkv_bias=False,
            output_bias=False,
            mlp_bias=False,
            sliding="all",
        ),
        "mixtral": Family(
            defaults={**_MISTRAL, "num_local_experts": 8, "num_experts_per_tok": 2},
            qkv_bias=False,
            output_bias=False,
            mlp_bias=False,
            experts_key="num_local_experts",
            expert_size_key="intermediate_size",
            expert_names=("w1", "w3", "w2"),
            sliding="all",
        ),
        "qwen2": Family(defaults=_QWEN, qkv_bias=True, output_bias=False, mlp_bias=False, sliding="asked"),
        "qwen2_moe": Family(
            defaults={
                **_QWEN_MOE,
                "intermediate_size": 5632,
                "num_attention_heads": 16,
                "num_key_value_heads": 16,
                "num_experts": 60,
                "num_experts_per_tok": 4,
                "moe_intermediate_size": 1408,
                "shared_expert_intermediate_size": 5632,
                "qkv_bias": True,
            },
            qkv_bias="qkv_bias",
            output_bias=False,
            mlp_bias=False,
            experts_key="num_experts",
            expert_size_key="moe_intermediate_size",
        ),
        "qwen3": Family(defaults={**_QWEN, "head_dim": 128}, mlp_bias=False, qk_norm="head", sliding="asked"),
        "qwen3_moe": Family(
            defaults={
                **_QWEN_MOE,
                "intermediate_size": 6144,
                "num_key_value_heads": 4,
                "num_experts": 128,
                "num_experts_per_tok": 8,
                "moe_intermediate_size": 768,
            },
            mlp_bias=False,
            qk_norm="head",
            experts_key="num_experts",
            expert_size_key="moe_intermediate_size",
            expert_names=("gate_proj", "up_proj", "down_proj"),
            sliding="asked",
        ),
        "phi3": Family(
            defaults={**_LLAMA, "vocab_size": 32064, "hidden_size": 3072, "intermediate_size": 8192},
            qkv=("self_attn.qkv_proj",),
            mlp_in=("mlp.gate_up_proj",),
            qkv_bias=False,
            output_bias=False,
            mlp_bias=False,
            sliding="all",
        ),
        "gemma": Family(defaults=_GEMMA, mlp_bias=False),
        "gemma2": Family(defaults=_GEMMA2, mlp_bias=False, layer_norms=_SANDWICH, sliding="1 of 2"),
        "gemma3_text": Family(
            defaults={**_GEMMA2, "vocab_size": 262208},
            mlp_bias=False,
            qk_norm="head",
            layer_norms=_SANDWICH,
            sliding="5 of 6",
        ),
        "starcoder2": Family(
            defaults={
                "vocab_size": 49152,
                "hidden_size": 3072,
                "intermediate_size": 12288,
                "num_hidden_layers": 30,
                "num_attention_heads": 24,
                "num_key_value_heads": 2,
                "tie_word_embeddings": True,
                "use_bias": True,
            },
            mlp_in=("mlp.c_fc",),
            mlp_out="mlp.c_proj",
            gated=False,
            qkv_bias="use_bias",
            output_bias="use_bias",
            mlp_bias="use_bias",
            norm_bias=True,
            sliding="all",
        ),
        "gpt_neox": Family(
            defaults={
                "vocab_size": 50432,
                "hidden_size": 6144,
                "intermediate_size": 24576,
                "num_hidden_layers": 44,
                "num_attention_heads": 64,
                "attention_bias": True,
            },
            qkv=("attention.query_key_value",),
            output="attention.dense",
            mlp_in=("mlp.dense_h_to_4h",),
            mlp_out="mlp.dense_4h_to_h",
            gated=False,
            mlp_bias=True,
            norm_bias=True,
            grouped=False,
            backbone="gpt_neox",
            embedding="embed_in",
            final_norm="final_layer_norm",
        ),
        "olmo": Family(defaults=_OLMO, mlp_bias=False, layer_norms=(), final_norm=""),
        "olmo2": Family(defaults=_OLMO, mlp_bias=False, qk_norm="full", layer_norms=_AFTER),
        "olmo3": Family(
            defaults={**_OLMO, "sliding_window": 4096},
            mlp_bias=False,
            qk_norm="full",
            layer_norms=_AFTER,
            sliding="3 of 4",
        ),
        "smollm3": Family(
            defaults={
                "vocab_size": 128256,
                "hidden_size": 2048,
                "intermediate_size": 11008,
                "num_hidden_layers": 36,
                "num_attention_heads": 16,
                "num_key_value_heads": 4,
                "tie_word_embeddings": True,
            },
        ),
        "granite": Family(defaults=_LLAMA),
    }
)
"""By `model_type`. The defaults are those of the configuration classes of transformers 5.23, key by key."""
