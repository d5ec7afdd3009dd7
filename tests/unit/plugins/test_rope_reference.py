"""The frequencies of public model shapes, as the authors' own code computes them: ours and transformers' agree.

The numbers were written by `benchmarks/rope_reference.py`, from the commits that the file names.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ctxkit_rope.linear import LinearScaler
from ctxkit_rope.longrope import LongropeScaler
from ctxkit_rope.theta import DynamicScaler, NtkScaler
from ctxkit_rope.yarn import YarnScaler

if TYPE_CHECKING:
    from ctxkit_rope.extension import Extension

CASES = json.loads(Path(__file__).with_name("rope_reference.json").read_text(encoding="utf-8"))["cases"]
KINDS: dict[str, type[Extension]] = {
    "linear": LinearScaler, "ntk": NtkScaler, "dynamic": DynamicScaler, "yarn": YarnScaler, "longrope": LongropeScaler,
}  # fmt: skip
AGREEMENT = 1e-6  # relative; the reference code computes in float32
each = pytest.mark.parametrize("case", CASES, ids=[f"{case['shape']} {case['kind']}" for case in CASES])


def scaler(case: dict[str, Any]) -> Extension:
    """Return our scaler of a case."""
    factors = {"long_factor": tuple(case["long_factor"])} if "long_factor" in case else {}
    windows = {"original_max_position_embeddings": case["original"], "target_length": case["target"]}
    return KINDS[case["kind"]](**windows, **factors)


def test_cases() -> None:
    """Five public shapes, each by every kind that the two repositories have."""
    assert len({case["shape"] for case in CASES}) == 5
    assert len(CASES) == 5 * len(KINDS)


@each
def test_formula(case: dict[str, Any]) -> None:
    """Our double precision and the authors' single precision differ by rounding alone."""
    ours = scaler(case).frequencies(case["dim"], case["rope_theta"], case["target"])
    np.testing.assert_allclose(ours.inv_freq, case["inv_freq"], rtol=AGREEMENT)
    assert ours.attention_scaling == pytest.approx(case["attention"], rel=AGREEMENT)


@pytest.mark.torch
@each
def test_transformers(case: dict[str, Any]) -> None:
    """A rotary module made from our config rotates as the authors' code does, at the target window."""
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    from ctxkit.train.rope import rotation

    rope = {"rope_type": "default", "rope_theta": case["rope_theta"]}
    config = LlamaConfig(
        hidden_size=case["dim"],
        num_attention_heads=1,
        rope_parameters=rope,
        max_position_embeddings=case["original"],
    )
    scaler(case)(config)
    found = rotation(LlamaRotaryEmbedding(config), case["target"])
    np.testing.assert_allclose(found.inv_freq.numpy(), case["inv_freq"], rtol=AGREEMENT)
    assert found.attention_scaling == pytest.approx(case["attention"], rel=AGREEMENT)
