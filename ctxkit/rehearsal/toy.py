"""A model's config made small: what decides on its structure stays, its sizes shrink."""

from __future__ import annotations

from typing import Any

HIDDEN = 256
"""Up to this hidden size a model is small enough as it is."""
LAYERS = 2
EXPERTS = 4
INNER = 128
"""Width within a feed-forward layer, at most: half of the time of a small model, and a wider one shows nothing more."""
LENGTHS = ("max_position_embeddings", "sliding_window", "attention_chunk_size", "original_max_position_embeddings")
"""Fields of transformers' configs that are lengths in tokens."""
OF_VOCABULARY = ("vocab_size", "bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")
"""Fields that follow from the tokenizer, which may be another one in a rehearsal."""


def toy_config(config: dict[str, Any], halved: int) -> dict[str, Any]:
    """Return a config of the same architecture that a CPU trains in seconds, its lengths halved so often.

    Kept: the class, RoPE and its theta, the size of a head (so that frequencies and factors by dimension fit), whether
    heads share keys, experts, sliding windows, the pattern of layers, tied embeddings.
    """
    toy = {name: value for name, value in config.items() if name not in OF_VOCABULARY}
    for name in LENGTHS:
        toy |= {name: max(toy[name] >> halved, 1)} if _is_count(toy.get(name)) else {}
    if "rope_parameters" in toy:
        toy["rope_parameters"] = _short_rope(toy["rope_parameters"], halved)
    if _is_count(toy.get("hidden_size")) and toy["hidden_size"] > HIDDEN:
        toy |= _few_heads(toy)
        toy |= _few_experts(toy)
        toy |= _few_layers(toy)
    return toy


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _short_rope(rope: Any, halved: int) -> Any:
    """Return RoPE parameters, or those of each type of layer, with the original window halved so often."""
    if not isinstance(rope, dict):
        return rope
    name = "original_max_position_embeddings"
    short = {key: _short_rope(value, halved) for key, value in rope.items()}
    return {**short, name: max(rope[name] >> halved, 1)} if _is_count(rope.get(name)) else short


def _few_heads(config: dict[str, Any]) -> dict[str, Any]:
    """Return fewer heads of the same size, and widths that shrink as they do."""
    heads = config.get("num_attention_heads") or 1
    keys = config.get("num_key_value_heads") or heads
    size = config.get("head_dim") or config["hidden_size"] // heads
    group = min(heads // keys, max(HIDDEN // size, 2))  # query heads for each key head
    few_keys = min(keys, max(HIDDEN // (size * group), 2 if group == 1 else 1))
    few = few_keys * group
    hidden = few * size if not config.get("head_dim") else _even(config["hidden_size"] * few / heads)
    widths = {name: min(_even(value * hidden / config["hidden_size"]), INNER) for name, value in config.items()
              if name.endswith(("intermediate_size", "ffn_dim")) and _is_count(value)}  # fmt: skip
    stated = {"num_key_value_heads": few_keys} if "num_key_value_heads" in config else {}
    return {"num_attention_heads": few, "hidden_size": hidden, **stated, **widths}


def _even(value: float) -> int:
    """Return a width near a value: a multiple of 32, as bitsandbytes' four-bit weights need it on a CPU."""
    return max(round(value / 32), 1) * 32


def _few_experts(config: dict[str, Any]) -> dict[str, Any]:
    found = {name: min(config[name], EXPERTS) for name in config if "experts" in name and _is_count(config[name])}
    return found | {name: min(found[name], EXPERTS // 2) for name in found if "per_tok" in name}


def _few_layers(config: dict[str, Any]) -> dict[str, Any]:
    """Return as few layers as show every type of them; lists of one item a layer are cut."""
    layers = config["num_hidden_layers"]
    types = config.get("layer_types") or []
    kept = max([LAYERS, *(types.index(kind) + 1 for kind in set(types))])
    kept = min(kept, layers)
    lists = {name: value[:kept] for name, value in config.items() if isinstance(value, list) and len(value) == layers}
    return {"num_hidden_layers": kept, **lists}
