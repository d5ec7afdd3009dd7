"""RoPE of a stage: always scaled from the model that the recipe starts with, and read back from cos and sin."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedConfig, PreTrainedModel

from ctxkit.errors import CtxkitError
from ctxkit.recipe import Recipe, Stage
from ctxkit.spec import Context, RopeFrequencies, RopeScaler

RELATIVE_TOLERANCE = 1e-5
"""float32 cos and sin against the formula in double precision; transformers' own error is below 1e-6."""
SCALED_LAYERS = "full_attention"
"""The layer type that is scaled where each has RoPE of its own; the others see no further than before."""
FIELDS = ("rope_parameters", "max_position_embeddings", "original_max_position_embeddings")
"""What a scaler may write into a config."""


@dataclass(frozen=True)
class ExtendedRope:
    """The RoPE scaling in force for a stage: its own, or the one its weights were last trained with."""

    scaler: RopeScaler | None
    """None keeps the RoPE of `base` as it stands."""
    original: int
    """The true pre-training window in tokens."""
    window: int
    """The window it reaches, in tokens."""
    base: PreTrainedConfig
    """The config of the model that the recipe starts with, before any scaling of ctxkit's; or that of the adapter that
    it starts with."""

    def apply(self, config: PreTrainedConfig) -> None:
        """Scale a config, whatever stages before have made of its RoPE.

        Raises:
            CtxkitError: the architecture cannot take the change.
        """
        text, base = config.get_text_config(), self.base.get_text_config()
        for name in FIELDS:
            if hasattr(base, name):
                setattr(text, name, copy.deepcopy(getattr(base, name)))
        if self.scaler is not None:
            self.scaler(text)


@dataclass(frozen=True)
class Rotation:
    """What a rotary module does to sequences of one length."""

    inv_freq: torch.Tensor
    """Radians per token in double precision, shape (rotary dimension / 2,)."""
    attention_scaling: float
    """Factor on cos and sin."""


def rope_in_force(
    recipe: Recipe, stage: Stage, context: Context, base: PreTrainedConfig, start: ExtendedRope | None = None
) -> ExtendedRope | None:
    """Return the nearest scaling on the way from a stage back to the model, or None for the model's own.

    `start` is the RoPE of the adapter that the recipe starts with, where that is another than the model's own.
    """
    scaling, original = recipe.rope(stage), context.original_max_position_embeddings
    if scaling is None:
        return start
    return ExtendedRope(scaling.build(context), original, scaling.window(original), base)


def check_rope(model: PreTrainedModel, rope: ExtendedRope | None) -> None:
    """Compare what every rotary module of a model does with the formula that its recipe asks for.

    Each is called with positions up to the original and up to the target window, since some kinds choose their
    frequencies by the length; layer types that are not scaled must rotate as those of the unscaled model.

    Raises:
        CtxkitError: the model has no rotary embedding, or its frequencies are others than those asked for.
    """
    if rope is None:
        return
    found = [module for _, module in rotary_modules(model)]
    if not found:
        raise CtxkitError(f"{type(model).__name__} has no rotary embedding, so its RoPE cannot be scaled")
    for module in found:
        for layers in _layer_types(module):
            if rope.scaler is not None and layers in (None, SCALED_LAYERS):
                _check_scaled(module, layers, rope, rope.scaler)
            else:
                _check_unscaled(module, layers, rope)


def rotation(module: Any, length: int, layers: str | None = None) -> Rotation:
    """Return how a rotary module rotates sequences of `length` tokens, read off its cos and sin.

    The module itself is not called but a copy: some change their buffers when they are.

    Raises:
        CtxkitError: it cannot be called with positions, as every text model of transformers can.
    """
    device = next((buffer.device for buffer in module.buffers()), torch.device("cpu"))
    asked = {} if layers is None else {"layer_type": layers}
    position_ids = torch.tensor([[0, 1, length - 1]], device=device)
    try:
        rotated = copy.deepcopy(module)(torch.zeros(1, device=device), position_ids, **asked)
    except (TypeError, ValueError, RuntimeError, AttributeError, KeyError, IndexError) as error:
        said = f"{type(module).__name__} cannot be called with positions, so its frequencies are unknown: {error}"
        raise CtxkitError(said, "choose a text model of transformers, or leave out `rope`") from error
    if isinstance(rotated, torch.Tensor):  # complex numbers, as the reference code of Llama has them
        rotated = rotated.real, rotated.imag
    cos, sin = (part.detach()[0].to("cpu", torch.float64) for part in rotated)
    return Rotation(_of_pairs(torch.atan2(sin[1], cos[1])), float(cos[0, 0]))


def _of_pairs(angles: torch.Tensor) -> torch.Tensor:
    """Return one angle for each pair of dimensions, which models lay out as halves, as neighbours, or once."""
    half = len(angles) // 2
    if len(angles) % 2 == 0 and angles[:half].equal(angles[half:]):
        return angles[:half]
    if len(angles) % 2 == 0 and angles[0::2].equal(angles[1::2]):
        return angles[0::2]
    return angles


def rotary_modules(model: PreTrainedModel) -> Iterator[tuple[str, Any]]:
    """Yield the rotary modules of the text part of a model with their names."""
    text = model.config.get_text_config().model_type
    for name, module in model.named_modules():
        own = getattr(getattr(module, "config", None), "model_type", text)
        if type(module).__name__.endswith("RotaryEmbedding") and own == text:
            yield name, module


def _layer_types(module: Any) -> list[str | None]:
    rope_type = getattr(module, "rope_type", None)
    return list(rope_type) if isinstance(rope_type, dict) else [None]


def _check_scaled(module: Any, layers: str | None, rope: ExtendedRope, scaler: RopeScaler) -> None:
    parameters = rope.base.get_text_config().rope_parameters
    theta = parameters["rope_theta"] if layers is None else parameters[layers]["rope_theta"]
    for length in sorted({rope.original, rope.window}):
        found = rotation(module, length, layers)
        asked = scaler.frequencies(2 * len(found.inv_freq), theta, length)
        _compare(module, found, asked, f"at {length} tokens")


def _check_unscaled(module: Any, layers: str | None, rope: ExtendedRope) -> None:
    before = type(module)(config=copy.deepcopy(rope.base.get_text_config()))
    where = f"in the layers of {layers}, which stay as they were" if layers else "with the RoPE of the adapter"
    for length in sorted({rope.original, rope.window}):
        asked = rotation(before, length, layers)
        same = RopeFrequencies(tuple(asked.inv_freq.tolist()), asked.attention_scaling)
        _compare(module, rotation(module, length, layers), same, where)


def _compare(module: Any, found: Rotation, asked: RopeFrequencies, where: str) -> None:
    """Refuse a rotation that is not the one asked for.

    Raises:
        CtxkitError: with the greatest difference.
    """
    expected = torch.tensor(asked.inv_freq, dtype=torch.float64)
    if len(expected) != len(found.inv_freq):
        said = f"{type(module).__name__} rotates {len(found.inv_freq)} pairs {where}, and {len(expected)} are due"
        raise CtxkitError(said, "nothing was trained; the scaler promises frequencies for another model")
    same = torch.allclose(found.inv_freq, expected, rtol=RELATIVE_TOLERANCE, atol=0)
    scaling = found.attention_scaling
    if not same or abs(scaling - asked.attention_scaling) > RELATIVE_TOLERANCE * asked.attention_scaling:
        worst = float(((found.inv_freq - expected).abs() / expected).max())
        raise CtxkitError(
            f"{type(module).__name__} does not have the rotary frequencies that the recipe asks for {where}: they "
            f"differ by up to {worst:.1e}, and attention scaling is {scaling:.6f} where "
            f"{asked.attention_scaling:.6f} is due",
            "nothing was trained; the model class may ignore rope_parameters, or its buffers were cast to 16 bits",
        )
