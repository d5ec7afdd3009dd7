"""The kinds beside linear and YaRN: their formulas, what they write, what their options and models refuse."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from ctxkit.errors import CtxkitError, ExitCode
from ctxkit.spec import Context
from ctxkit_rope import (
    DynamicOptions,
    LinearOptions,
    Llama3Options,
    LongropeOptions,
    NtkOptions,
    ThetaOptions,
    YarnOptions,
    ctxkit_components,
)
from ctxkit_rope.llama3 import Llama3Scaler
from ctxkit_rope.longrope import LongropeScaler
from ctxkit_rope.theta import DynamicScaler, NtkScaler, ThetaScaler

WINDOWS = {"original_max_position_embeddings": 128, "target_length": 512}
LONG = (1.5, 2.0, 3.0, 4.0)
GRID = [(128, 1e4, 4_096, 65_536), (64, 5e5, 8_192, 131_072), (96, 1e6, 32_768, 131_072), (8, 1e4, 128, 128)]
EXAMPLES: list[Any] = [
    DynamicScaler(**WINDOWS),
    Llama3Scaler(**WINDOWS),
    LongropeScaler(**WINDOWS, long_factor=LONG),
    NtkScaler(**WINDOWS),
    ThetaScaler(**WINDOWS, rope_theta=2e6),
]
each = pytest.mark.parametrize("scaler", EXAMPLES, ids=[scaler.kind for scaler in EXAMPLES])


def config(**fields: Any) -> Any:
    """Return the few fields of a config that a scaler reads: heads of 8 dimensions, all of them rotated."""
    rope = {"rope_type": "default", "rope_theta": 10_000.0}
    known = {"model_type": "llama", "head_dim": 8, "rope_parameters": rope, "max_position_embeddings": 128}
    return SimpleNamespace(**known | fields)


def angles(dim: int, theta: float) -> np.ndarray:
    """Return the unscaled frequencies."""
    return np.exp(-np.log(theta) * np.arange(dim // 2) / (dim // 2))


@pytest.mark.parametrize(("dim", "theta", "original", "target"), GRID)
def test_ntk_divides_the_slowest_and_keeps_the_fastest(dim: int, theta: float, original: int, target: int) -> None:
    """The fastest pair keeps its 1, the slowest is divided by the factor, and those between are a geometric row."""
    scaler = NtkScaler(original_max_position_embeddings=original, target_length=target)
    found = np.array(scaler.frequencies(dim, theta, target).inv_freq)
    expected = np.geomspace(1, angles(dim, theta)[-1] * original / target, dim // 2)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize(("dim", "theta", "original", "target"), GRID)
def test_dynamic_follows_the_length(dim: int, theta: float, original: int, target: int) -> None:
    """Within the window nothing changes; at twice the window the slowest pair is divided by factor + 1."""
    scaler = DynamicScaler(original_max_position_embeddings=original, target_length=target)
    for length in (1, original // 2, original):
        np.testing.assert_allclose(scaler.frequencies(dim, theta, length).inv_freq, angles(dim, theta), rtol=1e-12)
    slowest = scaler.frequencies(dim, theta, 2 * original).inv_freq[-1]
    assert slowest == pytest.approx(angles(dim, theta)[-1] / (target / original + 1), rel=1e-12)


@pytest.mark.parametrize(("dim", "theta", "original", "target"), GRID)
def test_llama3_follows_its_three_bands(dim: int, theta: float, original: int, target: int) -> None:
    """Kept below a quarter of the window, divided above it, and between a blend by the turns in the window."""
    scaler = Llama3Scaler(original_max_position_embeddings=original, target_length=target)
    kept = angles(dim, theta)
    wavelengths = 2 * np.pi / kept
    blend = (original / wavelengths - 1) / 3
    between = (1 - blend) * kept * original / target + blend * kept
    expected = np.select(
        [wavelengths < original / 4, wavelengths > original], [kept, kept * original / target], between
    )
    found = scaler.frequencies(dim, theta, target)
    np.testing.assert_allclose(found.inv_freq, expected, rtol=1e-12)
    assert found.attention_scaling == 1


def test_llama3_published() -> None:
    """Llama 3.1 with its factor 8: 29 of its 64 pairs stay, and from pair 35 on all are divided by 8."""
    scaler = Llama3Scaler(original_max_position_embeddings=8_192, target_length=65_536)
    ratio = angles(128, 5e5) / np.array(scaler.frequencies(128, 5e5, 8_192).inv_freq)
    assert (np.isclose(ratio, 1).sum(), np.isclose(ratio, 8).sum()) == (29, 64 - 35)


def test_longrope_by_hand() -> None:
    """Beyond the window the long factors divide, within it the short ones; attention grows by the paper's rule."""
    scaler = LongropeScaler(**WINDOWS, long_factor=(1.0, 2.0), short_factor=(1.0, 1.25))
    assert scaler.frequencies(4, 10_000.0, 129).inv_freq == pytest.approx((1, 0.005))
    assert scaler.frequencies(4, 10_000.0, 128).inv_freq == pytest.approx((1, 0.008))
    # ln 4 / ln 128 = 2/7
    assert scaler.frequencies(4, 10_000.0, 1).attention_scaling == pytest.approx((9 / 7) ** 0.5)


def test_longrope_published_attention() -> None:
    """Phi-3-mini from 4k to 128k warms its attention by the 1.190238 that the authors' class computes."""
    scaler = LongropeScaler(original_max_position_embeddings=4_096, target_length=131_072, long_factor=(1.0,))
    assert scaler.frequencies(2, 1e4, 1).attention_scaling == pytest.approx(1.190238, abs=5e-7)


def test_short_factors_unstated() -> None:
    """Without short factors short sequences keep their frequencies."""
    found = LongropeScaler(**WINDOWS, long_factor=LONG).frequencies(8, 1e4, 128)
    np.testing.assert_allclose(found.inv_freq, angles(8, 1e4), rtol=1e-12)


@pytest.mark.parametrize(
    ("scaler", "window", "written"),
    [
        (EXAMPLES[0], 128, {"rope_type": "dynamic", "factor": 4.0}),
        (EXAMPLES[1], 512, {
            "rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 128,
        }),
        (EXAMPLES[2], 512, {
            "rope_type": "longrope", "factor": 4.0, "original_max_position_embeddings": 128,
            "short_factor": [1.0] * 4, "long_factor": [1.5, 2.0, 3.0, 4.0],
        }),
        (EXAMPLES[3], 512, {"rope_type": "default", "rope_theta": pytest.approx(1e4 * 4 ** (8 / 6))}),
        (EXAMPLES[4], 512, {"rope_type": "default", "rope_theta": 2e6}),
    ],
    ids=[scaler.kind for scaler in EXAMPLES],
)  # fmt: skip
def test_what_is_written(scaler: Any, window: int, written: dict[str, Any]) -> None:
    """Each writes the keys that transformers knows for its type; dynamic leaves the window from which growth counts."""
    model = config(original_max_position_embeddings=7)
    scaler(model)
    assert model.rope_parameters == {"rope_theta": 10_000.0} | written
    assert model.max_position_embeddings == window
    assert model.original_max_position_embeddings == written.get("original_max_position_embeddings", 7)


def test_partial_rotation_counts() -> None:
    """The dimensions of the NTK formula are those that are rotated, and the share stays in the config."""
    rope = {"rope_type": "default", "rope_theta": 10_000.0, "partial_rotary_factor": 0.5}
    model = config(rope_parameters=rope, head_dim=None, hidden_size=32, num_attention_heads=2)
    NtkScaler(**WINDOWS)(model)
    assert model.rope_parameters["rope_theta"] == pytest.approx(1e4 * 4 ** (8 / 6))
    assert model.rope_parameters["partial_rotary_factor"] == 0.5


@each
def test_layer_types(scaler: Any) -> None:
    """Where layer types have RoPE of their own, that of full attention is scaled and the others are left alone."""
    sliding = {"rope_type": "default", "rope_theta": 1e4}
    model = config(rope_parameters={"full_attention": {"rope_theta": 1e4}, "sliding_attention": sliding})
    flat = config()
    scaler(model)
    scaler(flat)
    assert model.rope_parameters == {"full_attention": flat.rope_parameters, "sliding_attention": sliding}


def scaled(rope_type: str, **fields: Any) -> dict[str, Any]:
    """Return the parameters of a model that was extended before, by a factor of 2."""
    return {"rope_type": rope_type, "rope_theta": 1e4, "factor": 2.0} | fields


LLAMA3 = scaled("llama3", low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=128)
LONGROPE = scaled("longrope", short_factor=[1.1] * 4, long_factor=[2.0] * 4, original_max_position_embeddings=128)


@pytest.mark.parametrize(
    ("scaler", "old"),
    [
        (DynamicScaler(**WINDOWS), scaled("dynamic")),
        (Llama3Scaler(**WINDOWS), LLAMA3),
        (Llama3Scaler(**WINDOWS, high_freq_factor=8.0), LLAMA3 | {"high_freq_factor": 8.0}),
        (LongropeScaler(**WINDOWS, long_factor=LONG, short_factor=LONG), LONGROPE),
    ],
)
def test_extended_again(scaler: Any, old: dict[str, Any]) -> None:
    """The same kind again leaves a config as if it had been extended once."""
    once, twice = config(), config(rope_parameters=old)
    scaler(once)
    scaler(twice)
    assert vars(once) == vars(twice)


REFUSED = [
    (NtkScaler(**WINDOWS), {"rope_parameters": scaled("linear")}, "by rope_type 'linear', and ntk would"),
    (ThetaScaler(**WINDOWS, rope_theta=2e6), {"rope_parameters": scaled("yarn")}, "'yarn', and theta would"),
    (DynamicScaler(**WINDOWS), {"rope_parameters": scaled("linear")}, "'linear', and dynamic would"),
    (Llama3Scaler(**WINDOWS), {"rope_parameters": scaled("linear")}, "'linear', and llama3 would"),
    (LongropeScaler(**WINDOWS, long_factor=LONG), {"rope_parameters": LLAMA3}, "'llama3', and longrope would"),
    (Llama3Scaler(**WINDOWS), {"rope_parameters": LLAMA3 | {"factor": 8.0}}, "with factor 8, and a target of 512"),
    (Llama3Scaler(**WINDOWS), {"rope_parameters": LLAMA3 | {"low_freq_factor": 2.0}}, "low_freq_factor 2, not 1"),
    (LongropeScaler(**WINDOWS, long_factor=LONG), {"rope_parameters": LONGROPE}, "short_factor of its own"),
    (LongropeScaler(**WINDOWS, long_factor=LONG), {"head_dim": 16}, "has 4 values, and the model rotates 8"),
    (ThetaScaler(**WINDOWS, rope_theta=9_999), {}, "rope_theta 9999 is below the model's own 10000"),
    (NtkScaler(**WINDOWS), {"max_position_embeddings": 256}, "ntk would raise it twice"),
    (NtkScaler(**WINDOWS), {"head_dim": 2}, "too few for ntk"),
    (DynamicScaler(**WINDOWS), {"head_dim": 2}, "too few for dynamic"),
    (DynamicScaler(**WINDOWS), {"model_type": "phi3"}, "only longrope or a new theta, not dynamic"),
    (YarnOptions(kind="yarn", factor=4, truncate=False).build(Context(original_max_position_embeddings=128)),
     {"rope_parameters": {"full_attention": {"rope_theta": 1e4}}}, "ignores `truncate: false`"),
    (NtkScaler(**WINDOWS), {"sliding_window": 64}, "last 64 tokens"),
    (NtkScaler(**WINDOWS), {"sliding_window": 64, "layer_types": ["sliding_attention"]}, "last 64 tokens"),
]  # fmt: skip


@pytest.mark.parametrize(("scaler", "fields", "reason"), REFUSED)
def test_refusals(scaler: Any, fields: dict[str, Any], reason: str) -> None:
    """A config that cannot take the change is left alone, and the error gives the reason and a way out."""
    model = config(**fields)
    before = dict(vars(model))
    with pytest.raises(CtxkitError, match=reason) as caught:
        scaler(model)
    assert caught.value.exit_code == ExitCode.RECIPE
    assert caught.value.hint
    assert vars(model) == before


def test_way_out_of_a_sliding_window() -> None:
    """The message holds the very lines to write, layer types included where the config lists them."""
    for fields, lines in (
        ({}, "`model: {config: {sliding_window: null}}`"),
        ({"layer_types": ["sliding_attention"]}, "`model: {config: {sliding_window: null, layer_types: null}}`"),
    ):
        with pytest.raises(CtxkitError) as caught:
            NtkScaler(**WINDOWS)(config(sliding_window=64, **fields))
        assert lines in str(caught.value.hint)


@pytest.mark.parametrize(
    "fields",
    [{"layer_types": ["sliding_attention", "full_attention"]}, {"use_sliding_window": False}],
    ids=["layers in turn", "not in use"],
)
def test_some_layer_sees_everything(fields: dict[str, Any]) -> None:
    """Sliding layers beside full ones, and windows that are not in use, are no obstacle."""
    model = config(sliding_window=64, **fields)
    NtkScaler(**WINDOWS)(model)
    assert model.max_position_embeddings == 512


@pytest.mark.parametrize("scaler", [NtkScaler(**WINDOWS), ThetaScaler(**WINDOWS, rope_theta=2e6), EXAMPLES[2]])
def test_phi3_takes_a_new_theta_and_longrope(scaler: Any) -> None:
    """Phi-3's config accepts longrope and the unscaled type."""
    model = config(model_type="phi3")
    scaler(model)
    assert model.max_position_embeddings == 512


def test_components() -> None:
    """The plugin offers seven kinds for the rope slot."""
    assert ctxkit_components() == [
        DynamicOptions, LinearOptions, Llama3Options, LongropeOptions, NtkOptions, ThetaOptions, YarnOptions,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "scaler"),
    [
        (DynamicOptions(kind="dynamic", factor=4), EXAMPLES[0]),
        (Llama3Options(kind="llama3", target_length=512), EXAMPLES[1]),
        (LongropeOptions(kind="longrope", factor=4, long_factor=LONG), EXAMPLES[2]),
        (NtkOptions(kind="ntk", factor=4), EXAMPLES[3]),
        (ThetaOptions(kind="theta", factor=4, rope_theta=2e6), EXAMPLES[4]),
        (
            Llama3Options(kind="llama3", factor=4, low_freq_factor=2, high_freq_factor=9),
            Llama3Scaler(**WINDOWS, low_freq_factor=2, high_freq_factor=9),
        ),
        (
            LongropeOptions(kind="longrope", factor=4, long_factor=LONG, short_factor=LONG, attention_factor=1.5),
            LongropeScaler(**WINDOWS, long_factor=LONG, short_factor=LONG, attention_factor=1.5),
        ),
    ],
)
def test_build(options: Any, scaler: Any) -> None:
    """Options become the scaler for the windows that they and the model give."""
    assert options.build(Context(original_max_position_embeddings=128)) == scaler


@pytest.mark.parametrize(
    ("cls", "fields"),
    [
        (ThetaOptions, {"kind": "theta", "factor": 4}),
        (ThetaOptions, {"kind": "theta", "factor": 4, "rope_theta": 1}),
        (Llama3Options, {"kind": "llama3", "factor": 4, "low_freq_factor": 4}),
        (LongropeOptions, {"kind": "longrope", "factor": 4}),
        (LongropeOptions, {"kind": "longrope", "factor": 4, "long_factor": []}),
        (LongropeOptions, {"kind": "longrope", "factor": 4, "long_factor": [1, 0]}),
        (LongropeOptions, {"kind": "longrope", "factor": 4, "long_factor": [1], "short_factor": [1, 1]}),
        (NtkOptions, {"kind": "ntk"}),
        (DynamicOptions, {"kind": "dynamic", "factor": 4, "target_length": 512}),
    ],
)
def test_wrong_options(cls: Any, fields: dict[str, Any]) -> None:
    """Options that say nothing, too much, or the impossible do not validate."""
    with pytest.raises(ValidationError):
        cls.model_validate(fields)


def longrope(file: Path, **fields: Any) -> LongropeOptions:
    """Return options that name a file of factors."""
    return LongropeOptions.model_validate({"kind": "longrope", "target_length": 512, "factors": str(file)} | fields)


def test_factors_of_a_file(tmp_path: Path) -> None:
    """The lists of a file are those of the recipe: its resolved form holds them, and can be read again without it."""
    file = tmp_path / "factors.json"
    file.write_text(json.dumps({"long_factor": [1, 2.5], "short_factor": [1, 1.5], "target_length": 512, "seen": 3}))
    options = longrope(file)
    assert (options.long_factor, options.short_factor, options.factors) == ((1, 2.5), (1, 1.5), None)
    file.unlink()
    assert LongropeOptions.model_validate(options.model_dump(mode="json")) == options


def test_factors_of_another_window(tmp_path: Path) -> None:
    """Where a factor is stated, the window follows from the model's: the file must be that of this one."""
    file = tmp_path / "factors.json"
    file.write_text(json.dumps({"long_factor": [1, 2.5], "target_length": 512}))
    options = longrope(file, target_length=None, factor=4)
    assert options.build(Context(original_max_position_embeddings=128)).target_length == 512
    assert options.rehearsed({}, 128)["long_factor"] == [1, 2.5]
    wrong: tuple[Callable[[], object], ...] = (
        lambda: options.build(Context(original_max_position_embeddings=256)),
        lambda: options.rehearsed({}, 256),
    )
    for call in wrong:
        with pytest.raises(
            CtxkitError, match=r"made for a target_length of 512, not 1024\nname another file.*search-rope"
        ):
            call()


def test_a_home_that_nobody_has() -> None:
    """A path that begins with the home of a stranger is a fault of the recipe, with a search beside it or without."""
    for search in ({}, {"search": {"source": {"kind": "files", "paths": ["*"]}}}):
        with pytest.raises(ValidationError, match=r"factors: ~nobody-of-this-name/f\.json cannot be found"):
            longrope(Path("~nobody-of-this-name/f.json"), **search)


@pytest.mark.parametrize(
    ("text", "fields", "reason"),
    [
        (None, {}, "factors: .* cannot be read: No such file"),
        ("{", {}, "factors: .* is not JSON"),
        ("[1]", {}, "factors: .* holds no long_factor"),
        ('{"short_factor": [1]}', {}, "factors: .* holds no long_factor"),
        ('{"long_factor": ["a"]}', {}, "long_factor"),
        ('{"long_factor": [1], "target_length": 256}', {}, "made for .* of 256, not 512: name another file"),
        ('{"long_factor": [1]}', {"long_factor": [1]}, "state it, or long_factor"),
    ],
)
def test_wrong_file_of_factors(tmp_path: Path, text: str | None, fields: dict[str, Any], reason: str) -> None:
    """What is wrong with the file is said of the recipe."""
    file = tmp_path / "factors.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ValidationError, match=reason):
        longrope(file, **fields)
