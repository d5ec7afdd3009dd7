"""The shape of a language model: all that decides on its parameters, its memory and its arithmetic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ctxkit.errors import CtxkitError, ExitCode
from ctxkit_planner.families import FAMILIES, Family

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A decoder of one of the known architectures; sizes are in elements, windows in tokens."""

    model_type: str
    layers: int
    hidden_size: int
    intermediate_size: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab_size: int
    tied: bool = False
    gated: bool = True
    """Whether the feed-forward part has a gate beside its projection up."""
    attention_bias: bool = False
    """A bias on query, key and value."""
    output_bias: bool = False
    """A bias on the projection out of the attention."""
    mlp_bias: bool = False
    experts: int = 0
    """Experts of a layer; 0 for a dense model."""
    experts_per_token: int = 0
    expert_intermediate_size: int = 0
    shared_intermediate_size: int = 0
    """Inner size of the expert that sees every token; 0 where there is none."""
    dense_layers: tuple[int, ...] = ()
    """The layers of a mixture of experts that are dense all the same."""
    window: int = 0
    """Tokens that a layer with a sliding window sees; 0 where every layer sees all."""
    window_layers: int = 0
    """Layers with that window."""

    @property
    def family(self) -> Family:
        """The architecture, which knows how the modules are called."""
        return FAMILIES[self.model_type]

    @property
    def query_size(self) -> int:
        """Elements of a token's queries: heads times their size."""
        return self.heads * self.head_dim

    @property
    def kv_size(self) -> int:
        """Elements of a token's keys, and of its values."""
        return self.kv_heads * self.head_dim


def shape_of(config: Mapping[str, Any]) -> Shape:
    """Return the shape that a transformers `config.json` describes; a missing key has the architecture's own default.

    Raises `CtxkitError` with the exit code of a recipe where the architecture is not known, naming those that are.
    """
    config = _of_text(config)
    model_type = str(config.get("model_type", ""))
    family = FAMILIES.get(model_type)
    if family is None:
        raise CtxkitError(
            f"the memory of a model of type {model_type or '(none named)'!r} cannot be planned: its shape is not known",
            f"known types: {', '.join(sorted(FAMILIES))}",
            exit_code=ExitCode.RECIPE,
        )
    read = {**family.defaults, **{key: value for key, value in config.items() if value is not None}}
    _check(read)
    heads, hidden = int(read["num_attention_heads"]), int(read["hidden_size"])
    asks = _head_dim_key(config, family)
    return Shape(
        model_type=model_type,
        layers=int(read["num_hidden_layers"]),
        hidden_size=hidden,
        intermediate_size=int(read["intermediate_size"]),
        heads=heads,
        kv_heads=int((family.grouped and read.get("num_key_value_heads")) or heads),
        head_dim=int(asks or hidden // heads),
        vocab_size=int(read["vocab_size"]),
        tied=bool(read.get("tie_word_embeddings", False)),
        gated=family.gated,
        attention_bias=_answer(family.qkv_bias, read),
        output_bias=_answer(family.output_bias, read),
        mlp_bias=_answer(family.mlp_bias, read),
        **_experts(family, read),
        **_windows(family, read),
    )


_SIZES = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "vocab_size",
    "decoder_sparse_step",
)
_MAY_BE_0 = ("num_key_value_heads", "head_dim", "sliding_window", "num_experts", "num_local_experts")


def _check(read: Mapping[str, Any]) -> None:
    """Raise `CtxkitError` where a size of a configuration is none."""
    for key in (*_SIZES, *_MAY_BE_0):
        value, least = read.get(key, 1), 0 if key in _MAY_BE_0 else 1
        if type(value) is not int or value < least:
            message = f"the config of the model has {key}: {value!r}, which is no size"
            hint = f"it is a whole number from {least} on; see model.config, or the config.json of the model"
            raise CtxkitError(message, hint, exit_code=ExitCode.RECIPE)
    for key in ("layer_types", "mlp_only_layers"):
        if not isinstance(read.get(key, []), list | tuple):
            message = f"the config of the model has {key}: {read[key]!r}, which is no list"
            raise CtxkitError(message, "see the config.json of the model", exit_code=ExitCode.RECIPE)


def _of_text(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the part of the language model, where the configuration is of a model that sees images too."""
    inner = config.get("text_config")
    return inner if isinstance(inner, dict) and config.get("model_type") not in FAMILIES else config


def _head_dim_key(config: Mapping[str, Any], family: Family) -> int | None:
    """Return the head size that is written, or the class's own where the key is absent; null is the quotient."""
    return config["head_dim"] if "head_dim" in config else family.defaults.get("head_dim")


def _answer(key: str | bool, read: Mapping[str, Any]) -> bool:  # noqa: FBT001 - a family's own answer, or its key
    return key if isinstance(key, bool) else bool(read.get(key, False))


def _experts(family: Family, read: Mapping[str, Any]) -> dict[str, Any]:
    if not family.experts_key:
        return {}
    layers = int(read["num_hidden_layers"])
    # `Qwen3MoeConfig` knows the experts by both names.
    experts = read.get("num_local_experts", read.get(family.experts_key))
    return {
        "experts": int(experts or 0),
        "experts_per_token": int(read["num_experts_per_tok"]),
        "expert_intermediate_size": int(read[family.expert_size_key]),
        "shared_intermediate_size": _shared(family, read),
        "dense_layers": _dense(layers, family, read),
    }


def _shared(family: Family, read: Mapping[str, Any]) -> int:
    key = "shared_expert_intermediate_size"
    return int(read[key]) if key in family.defaults else 0


def _dense(layers: int, family: Family, read: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the layers without experts, where the architecture can have some (`Qwen3MoeDecoderLayer`)."""
    if "decoder_sparse_step" not in family.defaults:
        return ()
    step, listed = int(read["decoder_sparse_step"]), set(read.get("mlp_only_layers") or ())
    return tuple(layer for layer in range(layers) if (layer + 1) % step or layer in listed)


def _windows(family: Family, read: Mapping[str, Any]) -> dict[str, Any]:
    """Return the window and how many layers have it, 0 and 0 where none has."""
    window, layers = int(read.get("sliding_window") or 0), int(read["num_hidden_layers"])
    listed = read.get("layer_types")
    if listed is not None:
        count = sum(kind == "sliding_attention" for kind in listed)
    else:
        count = _windowed(family.sliding, layers, read)
    return {"window": window, "window_layers": count} if window and count else {}


def _windowed(sliding: str, layers: int, read: Mapping[str, Any]) -> int:
    if sliding == "asked":
        return max(layers - int(read.get("max_window_layers") or 0), 0) if read.get("use_sliding_window") else 0
    if " of " in sliding:
        period = int(read.get("sliding_window_pattern") or sliding.rsplit(maxsplit=1)[-1])
        return layers - layers // period
    return layers if sliding == "all" else 0
