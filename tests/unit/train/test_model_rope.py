"""RoPE of whole models, for every kind and many architectures: scaled, saved and reloaded; and what is refused."""

from __future__ import annotations

import copy
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM

from ctxkit.errors import CtxkitError
from ctxkit.host import Host
from ctxkit.registry import collect
from ctxkit.spec import Context, ModelRequest
from ctxkit.train.adapter import save_config, with_adapter
from ctxkit.train.model import make_model
from ctxkit.train.rope import ExtendedRope, check_rope, rotation

pytestmark = pytest.mark.torch

WINDOW = 64
THETA = 10_000.0
SIZES: dict[str, Any] = {
    "vocab_size": 32,
    "hidden_size": 32,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": WINDOW,
    "pad_token_id": 0,
}
EXPERTS = {"num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 8}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen2": {},
    "qwen3": {"head_dim": 16},
    "qwen3_moe": {"head_dim": 16, **EXPERTS},
    "mistral": {"sliding_window": None},
    "mixtral": {"num_local_experts": 2, "num_experts_per_tok": 1, "sliding_window": None},
    "gemma2": {"head_dim": 16, "sliding_window": 16},
    "gemma3_text": {"head_dim": 16, "sliding_window": 16, "layer_types": ["sliding_attention", "full_attention"]},
    "phi": {"partial_rotary_factor": 0.5},
    "phi3": {},
    "stablelm": {"partial_rotary_factor": 0.25},
    "starcoder2": {"sliding_window": None},
    "cohere": {},
}
ROTATED = {"phi": 4, "stablelm": 2}
"""Pairs of dimensions that are rotated, where it is not all 8."""
LAYERS = ("full_attention", "sliding_attention")
KINDS = ("dynamic", "linear", "llama3", "longrope", "ntk", "theta", "yarn")


def options(kind: str, pairs: int, **fields: Any) -> dict[str, Any]:
    """Return the options of a kind for a model with so many pairs of rotary dimensions."""
    long_factor = [round(1.1 + 3 * pair / pairs, 2) for pair in range(pairs)]
    own = {"theta": {"rope_theta": 2e6}, "longrope": {"long_factor": long_factor, "short_factor": [1.05] * pairs}}
    return {"kind": kind, "factor": 4, **own.get(kind, {}), **fields}


def tiny(family: str, **fields: Any) -> Any:
    """Return the config of a tiny model of a family, as transformers makes it."""
    own = {"rope_type": "default", "rope_theta": THETA}
    rope = {"full_attention": own, "sliding_attention": {**own, "rope_theta": 500.0}} if "gemma3" in family else own
    return AutoConfig.for_model(family, **{**SIZES, "rope_parameters": rope, **FAMILIES.get(family, {}), **fields})


@cache
def components() -> Any:
    """Return the options classes of the slot by kind."""
    return collect(Host()).components["rope"]


def extended(base: Any, kind: str, pairs: int = 8, **fields: Any) -> ExtendedRope:
    """Return the scaling of a recipe that starts with a model of this config."""
    values = options(kind, pairs, **fields)
    chosen: Any = components()[kind].model_validate(values)
    scaler = chosen.build(Context(original_max_position_embeddings=WINDOW))
    return ExtendedRope(scaler, WINDOW, chosen.window(WINDOW), base)


def made(rope: ExtendedRope) -> Any:
    """Return a model of random weights with the scaling, as a stage makes it."""
    torch.manual_seed(0)
    config = copy.deepcopy(rope.base)
    rope.apply(config)
    return make_model(ModelRequest("stage", config, None, {"dtype": "float32"})).eval()


def rotary(model: Any) -> Any:
    """Return the one rotary module of a model."""
    (module,) = (part for part in model.modules() if type(part).__name__.endswith("RotaryEmbedding"))
    return module


def layers(model: Any) -> tuple[str | None, ...]:
    """Return the layer types with RoPE of their own."""
    return LAYERS if isinstance(rotary(model).rope_type, dict) else (None,)


def pairs_of(family: str) -> int:
    """Return how many pairs of dimensions a family's tiny model rotates."""
    return ROTATED.get(family, 8)


def logits(model: Any, length: int) -> torch.Tensor:
    """Return what a model says of a text of so many tokens."""
    ids = torch.arange(length)[None] * 7 % 32
    with torch.no_grad():
        result: torch.Tensor = model(input_ids=ids, use_cache=False).logits
    return result


def expected(kind: str, pairs: int, length: int) -> np.ndarray:
    """Return the frequencies by the published formulas, written apart from the scalers' code."""
    index = np.arange(pairs)
    kept = THETA ** (-index / pairs)
    exponent = pairs / (pairs - 1) if pairs > 1 else np.nan
    chosen = options("longrope", pairs)["long_factor" if length > WINDOW else "short_factor"]
    turns = WINDOW * kept / (2 * np.pi)
    raised = {"ntk": 4.0, "dynamic": max(4 * length / WINDOW - 3, 1)}
    if kind in raised:
        return (THETA * raised[kind] ** exponent) ** (-index / pairs)
    return {
        "linear": kept / 4,
        "theta": 2e6 ** (-index / pairs),
        "longrope": kept / np.array(chosen),
        "llama3": kept * np.interp(turns, [1, 4], [1 / 4, 1]),
        "yarn": kept * np.interp(index, yarn_bounds(pairs), [1, 1 / 4]),
    }[kind]


def yarn_bounds(pairs: int) -> list[float]:
    """Return the whole indices between which YaRN ramps: 32 turns and 1 turn in the window."""
    low, high = pairs * np.emath.logn(THETA, WINDOW / (2 * np.pi * np.array([32, 1])))
    return [max(np.floor(low), 0), min(np.ceil(high), 2 * pairs - 1)]


def attention(kind: str) -> float:
    """Return the factor on cos and sin for a factor of 4, by the papers."""
    return {"yarn": 0.1 * np.log(4) + 1, "longrope": np.sqrt(1 + np.log(4) / np.log(WINDOW))}.get(kind, 1.0)


def takes(family: str, kind: str) -> bool:
    """Return whether a family accepts a kind: Phi-3 takes longrope and a new theta, a single pair no NTK formula."""
    if family == "phi3":
        return kind in ("longrope", "ntk", "theta")
    return pairs_of(family) > 1 or kind not in ("ntk", "dynamic")


CASES = [(family, kind) for family in FAMILIES for kind in KINDS if takes(family, kind)]
SAVED = [case for case in CASES if case[0] in ("llama", "gemma3_text") or case[1] == "yarn" or "phi3" in case]


@pytest.mark.parametrize(("family", "kind"), CASES)
def test_scaled(family: str, kind: str) -> None:
    """Cos and sin follow the formula at both windows."""
    rope = extended(tiny(family), kind, pairs_of(family))
    model = made(rope)
    check_rope(model, rope)
    for length in (WINDOW, 4 * WINDOW):
        found = rotation(rotary(model), length, layers(model)[0])
        np.testing.assert_allclose(found.inv_freq, expected(kind, pairs_of(family), length), rtol=2e-6)
        assert found.attention_scaling == pytest.approx(attention(kind), rel=1e-6)


@pytest.mark.parametrize(("family", "kind"), SAVED)
def test_saved_and_reloaded(family: str, kind: str, tmp_path: Path) -> None:
    """A reloaded model rotates and answers the very same, within the original window and beyond."""
    rope = extended(tiny(family), kind, pairs_of(family))
    model = made(rope)
    model.save_pretrained(tmp_path)
    loaded: Any = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    check_rope(loaded, rope)
    assert loaded.config.rope_parameters == model.config.rope_parameters
    for length in (WINDOW, 4 * WINDOW):
        assert logits(loaded, length).equal(logits(model, length))


@pytest.mark.parametrize("family", ["llama", "phi", "gemma3_text", "cohere"])
def test_scaling_reaches_the_answers(family: str) -> None:
    """The same weights answer otherwise once they are scaled: the check looks at what attention uses."""
    rope = extended(tiny(family), "ntk", pairs_of(family))
    torch.manual_seed(0)
    plain = make_model(ModelRequest("stage", copy.deepcopy(rope.base), None, {"dtype": "float32"})).eval()
    assert not logits(made(rope), 4 * WINDOW).equal(logits(plain, 4 * WINDOW))


@pytest.mark.parametrize("kind", KINDS)
def test_sliding_layers_stay(kind: str) -> None:
    """In Gemma 3 the sliding layers rotate as they did, at every length."""
    rope = extended(tiny("gemma3_text"), kind)
    before = AutoModelForCausalLM.from_config(copy.deepcopy(rope.base))
    for length in (WINDOW, 4 * WINDOW):
        was, now = (rotation(rotary(model), length, "sliding_attention") for model in (before, made(rope)))
        assert now.inv_freq.equal(was.inv_freq)
        assert now.attention_scaling == was.attention_scaling


def test_layer_type_that_was_scaled_too_is_refused() -> None:
    """Sliding layers that changed are found out."""
    rope = extended(tiny("gemma3_text"), "linear")
    config = copy.deepcopy(rope.base)
    rope.apply(config)
    config.rope_parameters["sliding_attention"] = dict(config.rope_parameters["full_attention"])
    with pytest.raises(CtxkitError, match="sliding_attention, which stay as they were"):
        check_rope(make_model(ModelRequest("stage", config, None, {})), rope)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", ["llama", "gemma3_text"])
def test_checking_leaves_no_trace(family: str, kind: str) -> None:
    """Dynamic and longrope change their buffers when they are called; the check calls a copy."""
    rope = extended(tiny(family), kind)
    model = made(rope)
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    state = {name: value for name, value in vars(rotary(model)).items() if not name.startswith("_")}
    check_rope(model, rope)
    assert all(buffer.equal(before[name]) for name, buffer in model.named_buffers())
    assert {name: value for name, value in vars(rotary(model)).items() if not name.startswith("_")} == state


@pytest.mark.parametrize("kind", KINDS)
def test_unscaled_model_is_refused(kind: str) -> None:
    """A model whose class or loader forgot the scaling is not trained."""
    rope = extended(tiny("llama"), kind)
    with pytest.raises(CtxkitError, match="does not have the rotary frequencies that the recipe asks for"):
        check_rope(AutoModelForCausalLM.from_config(copy.deepcopy(rope.base)), rope)


def test_wrong_attention_factor_is_refused() -> None:
    """Right frequencies with another attention factor are refused."""
    rope = extended(tiny("llama"), "yarn")
    with pytest.raises(CtxkitError, match=r"attention scaling is 1\.000000 where 1\.138629 is due"):
        check_rope(made(extended(tiny("llama"), "yarn", attention_factor=1.0)), rope)


def test_short_factors_are_compared_too() -> None:
    """A model that is right at the target window and wrong within the original one is refused."""
    rope = extended(tiny("llama"), "longrope")
    with pytest.raises(CtxkitError, match="at 64 tokens"):
        check_rope(made(extended(tiny("llama"), "longrope", short_factor=[1.5] * 8)), rope)


def test_long_factors_are_compared_too() -> None:
    """A model that is right within the original window and wrong at the target is refused."""
    rope = extended(tiny("llama"), "longrope")
    with pytest.raises(CtxkitError, match="at 256 tokens"):
        check_rope(made(extended(tiny("llama"), "longrope", long_factor=[1.5] * 8)), rope)


def test_buffers_cast_to_sixteen_bits_are_refused() -> None:
    """Casting a model degrades its frequencies; loading it in 16 bits does not."""
    rope = extended(tiny("llama"), "yarn")
    config = copy.deepcopy(rope.base)
    rope.apply(config)
    check_rope(make_model(ModelRequest("stage", config, None, {"dtype": torch.bfloat16})), rope)
    with pytest.raises(CtxkitError, match="cast to 16 bits"):
        check_rope(made(rope).to(torch.bfloat16), rope)


def test_model_without_rotary_module_is_refused() -> None:
    """A model with learned positions has nothing that could be scaled."""
    rope = extended(tiny("llama"), "yarn")
    with pytest.raises(CtxkitError, match="has no rotary embedding"):
        check_rope(AutoModelForCausalLM.from_config(AutoConfig.for_model("gpt2", n_layer=1, n_embd=8, n_head=2)), rope)


def test_module_that_cannot_be_called_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rotary module of another interface is no crash."""
    rope = extended(tiny("llama"), "yarn")
    model = made(rope)
    monkeypatch.setattr(type(rotary(model)), "forward", torch.nn.Identity.forward)
    with pytest.raises(CtxkitError, match="cannot be called with positions"):
        check_rope(model, rope)


@pytest.mark.parametrize("second", KINDS)
@pytest.mark.parametrize("first", KINDS)
@pytest.mark.parametrize("family", ["llama", "gemma3_text"])
def test_later_stage_ends_where_one_stage_would(family: str, first: str, second: str, tmp_path: Path) -> None:
    """Whatever a stage before made of a saved config, the next one scales from the starting model."""
    base = tiny(family)
    config = copy.deepcopy(base)
    extended(base, first, factor=2).apply(config)
    config.save_pretrained(tmp_path)
    again, once = AutoConfig.from_pretrained(tmp_path), copy.deepcopy(base)
    rope = extended(base, second)
    rope.apply(again)
    rope.apply(once)
    assert again.rope_parameters == once.rope_parameters
    assert again.max_position_embeddings == once.max_position_embeddings


def test_phi3_keeps_its_own_field(tmp_path: Path) -> None:
    """Phi-3 names its original window beside rope_parameters, and prefers that: it stays the true one."""
    base = tiny("phi3", original_max_position_embeddings=WINDOW)
    rope = extended(base, "longrope")
    made(rope).save_pretrained(tmp_path)
    assert AutoConfig.from_pretrained(tmp_path).original_max_position_embeddings == WINDOW
    check_rope(AutoModelForCausalLM.from_pretrained(tmp_path), rope)


@pytest.mark.parametrize("kind", ["yarn", "longrope", "dynamic"])
def test_adapter(kind: str, tmp_path: Path) -> None:
    """An adapter's folder keeps the scaled config, and the model with the adapter merged rotates as it was trained."""
    rope = extended(tiny("llama"), kind)
    wrapped: Any = get_peft_model(made(rope), LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj"]))
    check_rope(wrapped, rope)
    wrapped.save_pretrained(tmp_path)
    save_config(wrapped, tmp_path)
    assert AutoConfig.from_pretrained(tmp_path).rope_parameters["rope_type"] == kind
    merged = with_adapter(made(rope), tmp_path)
    check_rope(merged, rope)
    merged.save_pretrained(tmp_path / "merged")
    check_rope(AutoModelForCausalLM.from_pretrained(tmp_path / "merged"), rope)


@pytest.mark.parametrize(
    ("family", "fields", "reason"),
    [
        ("mistral", {"sliding_window": 100}, "last 100 tokens"),
        ("starcoder2", {"sliding_window": 100}, "last 100 tokens"),
        ("mixtral", {"sliding_window": 100}, "last 100 tokens"),
        ("qwen2", {"use_sliding_window": True, "sliding_window": 100, "max_window_layers": 0}, "last 100 tokens"),
        ("phi3", {}, "accepts only longrope or a new theta, not yarn"),
    ],
)
def test_refused_architectures(family: str, fields: dict[str, Any], reason: str) -> None:
    """What transformers makes of such configs is recognised."""
    with pytest.raises(CtxkitError, match=reason):
        made(extended(tiny(family, **fields), "yarn"))


@pytest.mark.parametrize(
    "fields",
    [
        {"use_sliding_window": False, "sliding_window": 16},
        {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 1},
        {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 28},
    ],
    ids=["off", "upper layers", "no layer"],
)
def test_sliding_windows_of_qwen2(fields: dict[str, Any]) -> None:
    """Where some layer sees everything, Qwen2 is extended."""
    rope = extended(tiny("qwen2", **fields), "yarn")
    check_rope(made(rope), rope)
