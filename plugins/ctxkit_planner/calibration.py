"""Corrections of the predicted memory, measured by a few steps on the GPU at hand, and kept for the plans to come."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, fields, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctxkit.errors import CtxkitError
from ctxkit_planner.memory import CONTEXT, Memory, memory
from ctxkit_planner.shape import shape_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ctxkit_planner.setup import Setup

CORRECTED = ("activations", "logits")
"""The parts that grow with the tokens, which the factor is for."""
LIBRARIES = ("torch", "transformers", "trl", "peft")
LAYERS = (8, 4, 2)
"""The numbers of layers that are tried where the whole model would not fit."""
SAFE = 0.8
"""Share of the device that a measured step may be predicted to take."""


@dataclass(frozen=True)
class Measured:
    """What a step took, in bytes: handed out by torch's allocator, and held by it."""

    allocated: float
    reserved: float


@dataclass(frozen=True)
class Point:
    """A length, what was predicted for it and what was measured; bytes."""

    tokens: int
    standing: float
    """Predicted for what does not grow with the tokens: all parts that the factor is not for."""
    growing: float
    """Predicted for the parts that the factor is for."""
    measured: Measured


@dataclass(frozen=True)
class Calibration:
    """What predictions are corrected by."""

    factor: float
    """Of the parts that grow with the tokens."""
    constant: float
    """Bytes that every step takes beside them."""
    reserve: float
    """What the allocator holds beyond what it handed out, as a share of that."""


if TYPE_CHECKING:
    Measure = Callable[[Mapping[str, Any], Setup, int], Measured]
    """Train on rows of so many tokens, by a model configuration and a setup, and say what it took."""


def corrected(needed: Memory, calibration: Calibration | None) -> Memory:
    """Return a prediction with the corrections; without any as it is."""
    if calibration is None:
        return needed
    device = {part: size * (calibration.factor if part in CORRECTED else 1.0) for part, size in needed.device.items()}
    handed_out = sum(device.values()) - device["fragmentation"] + calibration.constant
    device["fragmentation"] = calibration.constant + calibration.reserve * handed_out + CONTEXT
    return Memory(device, needed.host)


def fitted(points: Sequence[Point]) -> Calibration:
    """Return the factor and the constant by which two or more lengths are met, by least squares.

    Raises `ValueError` where all points predict the same growth, from which no factor follows.
    """
    count = len(points)
    growing = [point.growing for point in points]
    rest = [point.measured.allocated - point.standing for point in points]
    middle, level = sum(growing) / count, sum(rest) / count
    spread = sum((one - middle) ** 2 for one in growing)
    if not spread:
        raise ValueError("two lengths with different activations are needed")
    factor = sum((one - middle) * other for one, other in zip(growing, rest, strict=True)) / spread
    longest = max(points, key=lambda point: point.tokens).measured
    return Calibration(factor, level - factor * middle, max(longest.reserved / longest.allocated - 1, 0.0))


def calibrate(
    config: Mapping[str, Any], setup: Setup, lengths: Sequence[int], device_bytes: float, measure: Measure
) -> Calibration:
    """Measure a stage's model with random weights at some lengths, with as many layers as fit, and fit the corrections.

    One device is measured: what is sharded, shared by devices or offloaded is not, and quantized weights are measured
    as bf16, since the corrections are of activations. Raises `CtxkitError` where not even two layers fit.
    """
    alone = single(setup)
    keys = smaller(config, alone, max(lengths), device_bytes)
    points = [_point(keys, alone, tokens, measure(keys, alone, tokens)) for tokens in lengths]
    return fitted(points)


def single(setup: Setup) -> Setup:
    """Return the setup as one device has it by itself, on full rows and without patches."""
    weights = setup.weights if setup.weights in {"float32", "bfloat16", "float16"} else "bfloat16"
    alone = replace(setup, weights=weights, sharding="none", shards=1, sequence="none", sequence_size=1)
    return replace(
        alone, offload_optimizer="none", offload_param="none", accumulation=1, mlp_tile=None, dense_mask=False
    )


def smaller(config: Mapping[str, Any], setup: Setup, tokens: int, device_bytes: float) -> Mapping[str, Any]:
    """Return the configuration with as many layers as surely fit; raise `CtxkitError` where none do."""
    whole = shape_of(config)
    for layers in (whole.layers, *(fewer for fewer in LAYERS if fewer < whole.layers)):
        if memory(replace(whole, layers=layers), setup, tokens).peak_bytes <= SAFE * device_bytes:
            return _with_layers(config, layers)
    raise CtxkitError(
        f"cannot calibrate at {tokens:,} tokens: two layers would not fit this GPU",
        "measure shorter rows; the corrections hold for long ones too",
    )


def _with_layers(config: Mapping[str, Any], layers: int) -> Mapping[str, Any]:
    keys = dict(config) | {"num_hidden_layers": layers}
    if config.get("layer_types"):
        keys["layer_types"] = list(config["layer_types"])[:layers]
    return keys


def _point(config: Mapping[str, Any], setup: Setup, tokens: int, measured: Measured) -> Point:
    device = memory(shape_of(config), setup, tokens).device
    growing = sum(device[part] for part in CORRECTED)
    return Point(tokens, sum(device.values()) - device["fragmentation"] - growing, growing, measured)


def key_of(gpu: str, config: Mapping[str, Any], setup: Setup) -> str:
    """Return what corrections are kept under: all that they depend on."""
    libraries = [f"{name} {_version(name)}" for name in LIBRARIES]
    return " | ".join([gpu, shape_of(config).model_type, setup.attention, setup.checkpointing, *libraries])


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "none"


def cache_file() -> Path:
    """Return where corrections are kept: in `$CTXKIT_CACHE`, or else in `~/.cache/ctxkit`."""
    folder = os.environ.get("CTXKIT_CACHE")
    return (Path(folder) if folder else Path.home() / ".cache" / "ctxkit") / "calibration.json"


def kept(key: str) -> Calibration | None:
    """Return the corrections under a key; None where there are none, or the file cannot be read."""
    found = _read().get(key)
    names = [field.name for field in fields(Calibration)]
    if not isinstance(found, dict) or not all(type(found.get(name)) in (int, float) for name in names):
        return None
    return Calibration(**{name: found[name] for name in names})


def keep(key: str, calibration: Calibration) -> Path:
    """Write the corrections under a key beside those that are there, and return the file."""
    file = cache_file()
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_suffix(f".{os.getpid()}.new")
    fresh.write_text(json.dumps(_read() | {key: asdict(calibration)}, indent=2, sort_keys=True), encoding="utf-8")
    fresh.replace(file)
    return file


def _read() -> dict[str, Any]:
    try:
        found = json.loads(cache_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
