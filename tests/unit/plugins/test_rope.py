"""The RoPE scalers by formula, and the configs they refuse; nothing here imports the training stack."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from ctxkit.errors import CtxkitError, ExitCode
from ctxkit.spec import Context, RopeScaler
from ctxkit_rope import LinearOptions, YarnOptions
from ctxkit_rope.linear import LinearScaler
from ctxkit_rope.yarn import YarnScaler

LLAMA2 = (128, 10_000.0, 4_096, 65_536)
GRID = [
    LLAMA2,
    (64, 500_000.0, 8_192, 131_072),
    (96, 1e6, 32_768, 131_072),
    (8, 10_000.0, 128, 512),
    (16, 1e4, 2_048, 2_048),
    (8, 10.0, 400, 1_600),  # a theta so small that the ramp runs past the last dimension
]


def numpy_yarn(sizes: tuple[int, float, int, int], *, fast: float, slow: float, whole: bool) -> np.ndarray:
    """Blend by dimension index, written from the repository of the YaRN authors with numpy's own interpolation."""
    dim, base, original, target = sizes
    wavelengths = 2 * np.pi * np.power(base, np.linspace(0, 1, dim // 2, endpoint=False))
    # the index at which a wavelength fits `turns` times into the window
    bounds = dim / 2 * np.emath.logn(base, original / (2 * np.pi * np.array([fast, slow])))
    if whole:
        bounds = np.array([np.floor(bounds[0]), np.ceil(bounds[1])])
    bounds = np.clip(bounds, 0, dim - 1)
    kept = np.interp(np.arange(dim // 2), bounds, [1.0, 0.0])
    return 2 * np.pi / wavelengths * (kept + (1 - kept) * original / target)


def config(model_type: str = "llama", **fields: Any) -> Any:
    """Return the few fields of a config that a scaler reads."""
    rope = {"rope_type": "default", "rope_theta": 500_000.0}
    return SimpleNamespace(
        **{"model_type": model_type, "rope_parameters": rope, "max_position_embeddings": 128} | fields
    )


SCALERS: list[RopeScaler] = [
    LinearScaler(original_max_position_embeddings=128, target_length=512),
    YarnScaler(original_max_position_embeddings=128, target_length=512),
]
both = pytest.mark.parametrize("scaler", SCALERS, ids=["linear", "yarn"])


@pytest.mark.parametrize(("dim", "base", "original", "target"), GRID)
def test_linear_follows_the_paper(dim: int, base: float, original: int, target: int) -> None:
    """Linear frequencies are those of positions shrunk by original / target, and attention is not scaled."""
    scaler = LinearScaler(original_max_position_embeddings=original, target_length=target)
    positions_shrunk = np.exp(-np.log(base) * np.arange(dim // 2) / (dim // 2)) * (original / target)
    frequencies = scaler.frequencies(dim, base, target)
    np.testing.assert_allclose(frequencies.inv_freq, positions_shrunk, rtol=1e-13)
    assert frequencies.attention_scaling == 1.0


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize(("fast", "slow"), [(32, 1), (16, 2)])
@pytest.mark.parametrize("sizes", GRID)
def test_yarn_follows_the_reference_code(
    sizes: tuple[int, float, int, int], fast: float, slow: float, *, whole: bool
) -> None:
    """YaRN frequencies and attention scaling equal an independent transcription of the authors' code."""
    dim, base, original, target = sizes
    scaler = YarnScaler(
        original_max_position_embeddings=original, target_length=target, beta_fast=fast, beta_slow=slow, truncate=whole
    )
    expected = numpy_yarn(sizes, fast=fast, slow=slow, whole=whole)
    frequencies = scaler.frequencies(dim, base, target)
    np.testing.assert_allclose(frequencies.inv_freq, expected, rtol=1e-12)
    assert frequencies.attention_scaling == pytest.approx(np.log10(target / original) * np.log(10) / 10 + 1)


def test_linear_by_hand() -> None:
    """With 4 dimensions, theta 10,000 and factor 2 the frequencies are 1/2 and 1/200."""
    scaler = LinearScaler(original_max_position_embeddings=100, target_length=200)
    assert scaler.frequencies(4, 10_000.0, 200).inv_freq == pytest.approx((0.5, 0.005), rel=1e-15)


def test_yarn_by_hand() -> None:
    """With 8 dimensions the ramp over 4,096 tokens runs from index 1 (of 1.309) to 3 (of 2.814)."""
    frequencies = YarnScaler(original_max_position_embeddings=4_096, target_length=16_384).frequencies(8, 10_000.0, 12)
    assert frequencies.inv_freq == pytest.approx((1, 0.1, 0.01 * (0.5 + 0.5 / 4), 0.001 / 4), rel=1e-14)
    assert frequencies.attention_scaling == pytest.approx(1.138629436, abs=1e-9)


def test_yarn_attention_published() -> None:
    """At factor 16 cos and sin grow by the 1.277259 that the authors' class computes."""
    scaler = YarnScaler(original_max_position_embeddings=4_096, target_length=65_536)
    assert scaler.frequencies(128, 10_000.0, 65_536).attention_scaling == pytest.approx(1.277259, abs=5e-7)


def test_yarn_ramp_of_no_width() -> None:
    """A window so short that the ramp has no width still gives finite frequencies: slow ones are interpolated."""
    frequencies = YarnScaler(original_max_position_embeddings=6, target_length=12).frequencies(8, 10_000.0, 12)
    assert frequencies.inv_freq == pytest.approx((1, 0.05, 0.005, 0.0005))


@both
def test_config_is_complete(scaler: RopeScaler) -> None:
    """The config gets every parameter, keeps theta and partial rotation, and takes the target window."""
    rope = {"rope_type": "default", "rope_theta": 500_000.0, "partial_rotary_factor": 0.5}
    model = config(rope_parameters=rope)
    scaler(model)
    assert model.max_position_embeddings == 512
    assert model.rope_parameters["rope_theta"] == 500_000.0
    assert model.rope_parameters["partial_rotary_factor"] == 0.5
    assert model.rope_parameters["factor"] == 4.0
    assert rope == {"rope_type": "default", "rope_theta": 500_000.0, "partial_rotary_factor": 0.5}


def test_config_of_linear() -> None:
    """Linear writes the keys that transformers knows for it, and no other."""
    model = config()
    SCALERS[0](model)
    assert model.rope_parameters == {"rope_type": "linear", "rope_theta": 500_000.0, "factor": 4.0}


def test_config_of_yarn() -> None:
    """YaRN writes the original window and its bounds, and leaves an unstated attention factor to the default."""
    model = config(original_max_position_embeddings=999)
    SCALERS[1](model)
    assert model.rope_parameters == {
        "rope_type": "yarn",
        "rope_theta": 500_000.0,
        "factor": 4.0,
        "original_max_position_embeddings": 128,
        "beta_fast": 32.0,
        "beta_slow": 1.0,
        "truncate": True,
    }
    assert model.original_max_position_embeddings == 128


def test_stated_attention_factor() -> None:
    """A stated attention factor reaches both the config and the promised frequencies."""
    scaler = YarnScaler(original_max_position_embeddings=128, target_length=512, attention_factor=1)
    model = config()
    scaler(model)
    assert model.rope_parameters["attention_factor"] == 1.0
    assert isinstance(model.rope_parameters["attention_factor"], float)
    assert scaler.frequencies(8, 1e4, 512).attention_scaling == 1


@both
@pytest.mark.parametrize("first", SCALERS, ids=["after linear", "after yarn"])
def test_extended_again(first: RopeScaler, scaler: RopeScaler) -> None:
    """A config that was extended before is replaced, with the factor relative to the original window."""
    once, twice = config(), config()
    scaler(once)
    first(twice)
    twice.max_position_embeddings = 256
    scaler(twice)
    assert vars(twice) == vars(once)


NESTED = {"main": {"rope_type": "default", "rope_theta": 1e6}, "compress": {"rope_theta": 1e4}}
REFUSED = [
    pytest.param({"model_type": "gpt2", "rope_parameters": None}, "no rope_parameters", id="no rope"),
    pytest.param({"rope_parameters": {}}, "no rope_parameters", id="empty rope"),
    pytest.param({"model_type": "deepseek_v4", "rope_parameters": NESTED}, "compress, main, and none", id="nested"),
    pytest.param({"rope_parameters": {"rope_type": "default", "rope_theta": None}}, "no rope_theta", id="theta lost"),
    pytest.param({"model_type": "phi3"}, "only longrope", id="phi3"),
    pytest.param({"sliding_window": 511}, "last 511 tokens", id="sliding"),
    pytest.param({"sliding_window": 64, "use_sliding_window": True}, "last 64 tokens", id="sliding in use"),
    *(
        pytest.param({"rope_parameters": {"rope_type": kind, "rope_theta": 1e4, "factor": 8.0}}, f"'{kind}'", id=kind)
        for kind in ("llama3", "longrope", "dynamic", "mine")
    ),
    pytest.param({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "mscale": 1.0}}, "mscale", id="mscale"),
]


@both
@pytest.mark.parametrize(("fields", "reason"), REFUSED)
def test_refusals(scaler: RopeScaler, fields: dict[str, Any], reason: str) -> None:
    """A config that cannot take the change is left alone, and the error gives the reason and a way out."""
    model = config(**fields)
    before = dict(vars(model))
    with pytest.raises(CtxkitError, match=reason) as caught:
        scaler(model)
    assert caught.value.exit_code == ExitCode.RECIPE
    assert caught.value.hint
    assert vars(model) == before


@both
@pytest.mark.parametrize(
    "fields",
    [{"sliding_window": None}, {"sliding_window": 512}, {"sliding_window": 64, "use_sliding_window": False}],
    ids=["none", "wide enough", "not in use"],
)
def test_harmless_sliding_windows(scaler: RopeScaler, fields: dict[str, Any]) -> None:
    """A sliding window that hides nothing of the target is no obstacle."""
    model = config(**fields)
    scaler(model)
    assert model.max_position_embeddings == 512


@both
def test_unset_parameters_are_no_loss(scaler: RopeScaler) -> None:
    """Parameters that a config names without a value do not stand in the way."""
    model = config(rope_parameters={"rope_type": "yarn", "rope_theta": 1e4, "mscale": None})
    scaler(model)
    assert "mscale" not in model.rope_parameters


@pytest.mark.parametrize(
    "options",
    [
        LinearOptions(kind="linear", factor=4),
        LinearOptions(kind="linear", target_length=512),
        YarnOptions(kind="yarn", factor=4, beta_fast=16, beta_slow=2, attention_factor=1.5, truncate=False),
        YarnOptions(kind="yarn", target_length=512),
    ],
)
def test_build(options: LinearOptions | YarnOptions) -> None:
    """The built scaler aims at the stated window and carries every option."""
    scaler = options.build(Context(original_max_position_embeddings=128))
    for name, value in options.model_dump(exclude={"kind", "factor", "target_length"}).items():
        assert getattr(scaler, name) == value
    model = config()
    scaler(model)
    assert model.max_position_embeddings == 512
    assert model.rope_parameters["factor"] == 4.0


def test_factor_of_a_rounded_window() -> None:
    """Where a factor gives no whole number of tokens, the factor written is that of the whole window."""
    model = config()
    YarnOptions(kind="yarn", factor=1.1).build(Context(original_max_position_embeddings=4_096))(model)
    assert model.max_position_embeddings == 4_506
    assert model.rope_parameters["factor"] == 4_506 / 4_096
    assert math.isclose(model.rope_parameters["factor"], 1.1, rel_tol=1e-3)


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "yarn"},
        {"kind": "yarn", "factor": 4, "target_length": 512},
        {"kind": "yarn", "factor": 0.5},
        {"kind": "yarn", "factor": 4, "beta_fast": 1, "beta_slow": 1},
        {"kind": "yarn", "factor": 4, "attention_factor": 0},
        {"kind": "yarn", "factor": 4, "beta": 1},
        {"factor": 4},
    ],
)
def test_wrong_options(fields: dict[str, Any]) -> None:
    """Options that say nothing, too much, or the impossible do not validate."""
    with pytest.raises(ValidationError):
        YarnOptions.model_validate(fields)


@pytest.mark.parametrize(("original", "reason"), [(0, "not known"), (1_024, "shorter than the original")])
def test_impossible_windows(original: int, reason: str) -> None:
    """An unknown original window, and a target below it, are faults of the recipe."""
    with pytest.raises(CtxkitError, match=reason) as caught:
        LinearOptions(kind="linear", target_length=512).build(Context(original_max_position_embeddings=original))
    assert caught.value.exit_code == ExitCode.RECIPE
