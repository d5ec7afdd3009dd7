"""The change of a model config that every scaler makes, and the configs that cannot take it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ctxkit.errors import CtxkitError, ExitCode

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

REPLACEABLE = frozenset({"default", "linear", "yarn"})
"""Types that a scaler may overwrite, since nothing is lost that the original window does not give back."""

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
    }
)
"""Keys of `REPLACEABLE` types: the base model's own are carried over, the extension's are written anew."""

LONGROPE_ONLY = frozenset({"phi3", "phi4_multimodal"})
"""Model types whose config raises on any rope_type but longrope."""


def extend(config: PreTrainedConfig, target_length: int, scaling: Mapping[str, Any]) -> None:
    """Write complete `rope_parameters` and the window of `target_length` tokens into the config.

    Raises:
        CtxkitError: the config cannot take the change; it is then left as it was.
    """
    rope_type = str(scaling["rope_type"])
    old = _plain_parameters(config)
    _check_architecture(config, rope_type)
    _check_replaceable(old, rope_type)
    _check_sliding_window(config, target_length)
    kept = {key: old[key] for key in ("rope_theta", "partial_rotary_factor") if key in old}
    config.rope_parameters = {**kept, **scaling}
    original = scaling.get("original_max_position_embeddings")
    if original is not None and hasattr(config, "original_max_position_embeddings"):
        # transformers prefers this older, top-level field to the one inside rope_parameters
        config.original_max_position_embeddings = original
    config.max_position_embeddings = target_length


def refusal(reason: str, way_out: str) -> CtxkitError:
    """Return the error that says why a config is refused, and how to go on."""
    return CtxkitError(reason, way_out, exit_code=ExitCode.RECIPE)


def _plain_parameters(config: PreTrainedConfig) -> Mapping[str, Any]:
    """Return the one flat dict of RoPE parameters with its theta, or refuse."""
    name = f"model type '{config.model_type}'"
    parameters: Mapping[str, Any] = getattr(config, "rope_parameters", None) or {}
    if not parameters:
        raise refusal(
            f"the config of {name} has no rope_parameters, so there is nothing to scale",
            "choose a text model with rotary position embeddings, or leave out `rope`",
        )
    nested = sorted(key for key, value in parameters.items() if isinstance(value, Mapping))
    if nested:
        raise refusal(
            f"the config of {name} has rope_parameters for each layer type ({', '.join(nested)})",
            "choose a model with one set of rope_parameters for all layers; single layer types are not scaled yet",
        )
    if parameters.get("rope_theta") is None:
        raise refusal(
            f"the config of {name} has no rope_theta, so its frequencies are unknown",
            "restore rope_theta inside rope_parameters from the base model; assigning `rope_scaling` deletes it",
        )
    return parameters


def _check_architecture(config: PreTrainedConfig, rope_type: str) -> None:
    """Refuse model types that fail on anything but longrope."""
    if config.model_type in LONGROPE_ONLY:
        raise refusal(
            f"model type '{config.model_type}' accepts only longrope, not {rope_type}",
            "choose another model, or one of its releases whose window is long already",
        )


def _check_replaceable(old: Mapping[str, Any], rope_type: str) -> None:
    """Refuse to overwrite what the original window and theta cannot restore."""
    old_type = old.get("rope_type", "default")
    if old_type not in REPLACEABLE:
        raise refusal(
            f"the model is already scaled by rope_type '{old_type}', and {rope_type} would silently undo it",
            "start from the base model before that extension, or leave out `rope`",
        )
    unknown = sorted(key for key, value in old.items() if key not in UNDERSTOOD and value)
    if unknown:
        raise refusal(
            f"the model's rope_parameters hold {', '.join(unknown)}, which {rope_type} would silently drop",
            "start from a base model without them, or leave out `rope`",
        )


def _check_sliding_window(config: PreTrainedConfig, target_length: int) -> None:
    """Refuse attention that cannot see the whole target window."""
    window = getattr(config, "sliding_window", None)
    if window is None or getattr(config, "use_sliding_window", None) is False or window >= target_length:
        return
    raise refusal(
        f"the model attends to the last {window} tokens only, fewer than the target window of {target_length}",
        "sliding-window attention must be lifted first: use a copy of the model with `sliding_window: null` "
        "(or `use_sliding_window: false`) in its config.json; ctxkit does not lift it yet",
    )
