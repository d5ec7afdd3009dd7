"""The configs that a scaler cannot take, each with the reason and what to write instead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ctxkit.errors import CtxkitError, ExitCode

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

FULL = "full_attention"
"""The layer type that is scaled where each has RoPE of its own."""

UNDERSTOOD = frozenset(
    {
        "rope_type",
        "type",
        "rope_theta",
        "partial_rotary_factor",
        "factor",
        "original_max_position_embeddings",
        "attention_factor",
        "beta_fast",
        "beta_slow",
        "truncate",
        "short_factor",
        "long_factor",
        "low_freq_factor",
        "high_freq_factor",
    }
)
"""Keys that a scaler carries over or writes anew; a value under any other would be lost."""

LONGROPE_ONLY = frozenset({"phi3", "phi4_multimodal"})
"""Model types whose config raises on any rope_type but longrope and the unscaled one."""


def refusal(reason: str, way_out: str) -> CtxkitError:
    """Return the error that says why a config is refused, and how to go on."""
    return CtxkitError(reason, way_out, exit_code=ExitCode.RECIPE)


def is_nested(config: PreTrainedConfig) -> bool:
    """Return whether each layer type of a config has RoPE parameters of its own."""
    parameters = getattr(config, "rope_parameters", None) or {}
    return any(isinstance(value, Mapping) for value in parameters.values())


def scaled_parameters(config: PreTrainedConfig) -> Mapping[str, Any]:
    """Return the RoPE parameters that are scaled, with their theta: those of full attention where there are several.

    Raises:
        CtxkitError: there are none, or theta was lost.
    """
    name = f"model type '{config.model_type}'"
    parameters: Mapping[str, Any] = getattr(config, "rope_parameters", None) or {}
    if is_nested(config):
        others = sorted(key for key, value in parameters.items() if isinstance(value, Mapping))
        parameters = parameters.get(FULL) or {}
        if not parameters:
            raise refusal(
                f"the config of {name} has rope_parameters for {', '.join(others)}, and none for {FULL}",
                "choose a model whose layers of full attention have RoPE, or leave out `rope`",
            )
    if not parameters:
        raise refusal(
            f"the config of {name} has no rope_parameters, so there is nothing to scale",
            "choose a text model with rotary position embeddings, or leave out `rope`",
        )
    if parameters.get("rope_theta") is None:
        raise refusal(
            f"the config of {name} has no rope_theta, so its frequencies are unknown",
            "restore rope_theta inside rope_parameters from the base model; assigning `rope_scaling` deletes it",
        )
    return parameters


def check_architecture(config: PreTrainedConfig, kind: str, rope_type: str) -> None:
    """Refuse model types that fail on anything but longrope and a new theta."""
    if config.model_type in LONGROPE_ONLY and rope_type not in ("longrope", "default"):
        raise refusal(
            f"model type '{config.model_type}' accepts only longrope or a new theta, not {kind}",
            "choose `kind: longrope`, `ntk` or `theta`, or another model",
        )


def check_replaceable(old: Mapping[str, Any], kind: str, replaces: frozenset[str]) -> None:
    """Refuse to overwrite what the original window and theta cannot restore."""
    old_type = old.get("rope_type", "default")
    if old_type not in replaces:
        raise refusal(
            f"the model is already scaled by rope_type '{old_type}', and {kind} would silently undo it",
            "extend it by the same kind again, start from the base model before that extension, or leave out `rope`",
        )
    unknown = sorted(key for key, value in old.items() if key not in UNDERSTOOD and value)
    if unknown:
        raise refusal(
            f"the model's rope_parameters hold {', '.join(unknown)}, which {kind} would silently drop",
            "start from a base model without them, or leave out `rope`",
        )


def check_sliding_window(config: PreTrainedConfig, target_length: int) -> None:
    """Refuse attention of which no layer sees the whole target window."""
    window = getattr(config, "sliding_window", None)
    if window is None or getattr(config, "use_sliding_window", None) is False or window >= target_length:
        return
    layer_types = getattr(config, "layer_types", None)
    if layer_types and FULL in layer_types:
        return
    lifted = "sliding_window: null, layer_types: null" if layer_types else "sliding_window: null"
    raise refusal(
        f"the model attends to the last {window} tokens only, fewer than the target window of {target_length}",
        f"lift it: write `model: {{config: {{{lifted}}}}}` beside name_or_path; "
        "the weights then learn the wider attention in the training",
    )
