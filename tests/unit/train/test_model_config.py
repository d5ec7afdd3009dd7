"""The config of the model that a recipe starts with: its own, a fresh one, or its own with fields laid over it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from ctxkit.errors import CtxkitError, ExitCode
from ctxkit.recipe import ModelSection
from ctxkit.spec import Context, ModelRequest
from ctxkit.train.model import base_config, make_model, original_window
from ctxkit.train.rope import ExtendedRope, check_rope
from ctxkit_rope import YarnOptions

pytestmark = pytest.mark.torch

SIZES: dict[str, Any] = {
    "vocab_size": 32,
    "hidden_size": 32,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}


def saved(folder: Path, model_type: str, weights: bool = False, **fields: Any) -> Path:
    """Save a tiny model's config, and its weights where they are wanted."""
    config = AutoConfig.for_model(model_type, **SIZES, **fields)
    if weights:
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    config.save_pretrained(folder)
    return folder


def config_of(folder: Path, **over: Any) -> Any:
    """Return the config of a model with fields laid over it."""
    return base_config(ModelSection(name_or_path=str(folder), config=over or None), None)


def test_sliding_window_is_lifted(tmp_path: Path) -> None:
    """A window of 16 tokens is lifted, the rest stays; then the model extends, and its last token sees the first."""
    folder = saved(tmp_path, "mistral", weights=True, sliding_window=16, tie_word_embeddings=True)
    base = config_of(folder, sliding_window=None)
    assert (config_of(folder).sliding_window, base.sliding_window, base.tie_word_embeddings) == (16, None, True)
    scaler = YarnOptions(kind="yarn", factor=4).build(Context(original_max_position_embeddings=64))
    rope = ExtendedRope(scaler, 64, 256, base)
    config = config_of(folder, sliding_window=None)
    rope.apply(config)
    model = make_model(ModelRequest("stage", config, str(folder), {"dtype": "float32"})).eval()
    check_rope(model, rope)
    ids = torch.ones(1, 200, dtype=torch.long)
    other = ids.clone()
    other[0, 0] = 2
    with torch.no_grad():
        answers = [model(input_ids=some, use_cache=False).logits[0, -1] for some in (ids, other)]
    assert not answers[0].equal(answers[1])


def test_sliding_window_hides_the_first_token(tmp_path: Path) -> None:
    """As the model comes, two layers of 16 tokens cannot see that far: what is lifted above is there."""
    model: Any = AutoModelForCausalLM.from_pretrained(
        saved(tmp_path, "mistral", weights=True, sliding_window=16)
    ).eval()
    ids = torch.ones(1, 200, dtype=torch.long)
    other = ids.clone()
    other[0, 0] = 2
    with torch.no_grad():
        answers = [model(input_ids=some, use_cache=False).logits[0, -1] for some in (ids, other)]
    assert answers[0].equal(answers[1])


def test_what_follows_from_a_field_follows(tmp_path: Path) -> None:
    """Qwen2's layer types are made from its other fields again, where the recipe takes them away."""
    fields = {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 0}
    folder = saved(tmp_path, "qwen2", **fields)
    assert config_of(folder).layer_types == ["sliding_attention"] * 2
    assert config_of(folder, sliding_window=None, layer_types=None).layer_types == ["full_attention"] * 2


def test_rope_of_the_base_model_is_restored(tmp_path: Path) -> None:
    """The whole of rope_parameters is replaced, so that nothing of an earlier extension is left."""
    yarn = {"rope_type": "yarn", "rope_theta": 5e5, "factor": 2.0, "original_max_position_embeddings": 32}
    folder = saved(tmp_path, "llama", rope_parameters=yarn)
    plain = {"rope_type": "default", "rope_theta": 1e4}
    assert config_of(folder, rope_parameters=plain).rope_parameters == plain


def test_older_names_do_not_win(tmp_path: Path) -> None:
    """A config.json of before transformers 5 holds rope_scaling and rope_theta, which would be preferred."""
    folder = saved(tmp_path, "llama")
    stored = json.loads((folder / "config.json").read_text())
    del stored["rope_parameters"]
    stored |= {"rope_theta": 5e5, "rope_scaling": {"rope_type": "linear", "factor": 2.0}}
    (folder / "config.json").write_text(json.dumps(stored))
    assert config_of(folder).rope_parameters == {"rope_type": "linear", "rope_theta": 5e5, "factor": 2.0}
    plain = {"rope_type": "default", "rope_theta": 1e4}
    assert config_of(folder, rope_parameters=plain).rope_parameters == plain


def test_recipe_is_left_alone(tmp_path: Path) -> None:
    """Transformers completes the mappings that it is handed; those of the recipe stay as they are written."""
    rope = {"rope_theta": 1e4}
    config_of(saved(tmp_path, "llama"), rope_parameters=rope)
    assert rope == {"rope_theta": 1e4}


@pytest.mark.parametrize(
    ("field", "hint"), [("sliding_windows", "LlamaConfig"), ("max_position_embedding", "`max_position_embeddings`")]
)
def test_unknown_field_is_refused(tmp_path: Path, field: str, hint: str) -> None:
    """Transformers would keep a field that the architecture does not have, and use it for nothing."""
    with pytest.raises(CtxkitError, match=rf"model\.config\.{field}: LlamaConfig has no such field") as caught:
        config_of(saved(tmp_path, "llama"), **{field: 1})
    assert hint in str(caught.value.hint)
    assert caught.value.exit_code == ExitCode.RECIPE


def test_impossible_field_is_refused(tmp_path: Path) -> None:
    """What transformers itself refuses is a fault of the recipe."""
    with pytest.raises(CtxkitError, match="no config can be made") as caught:
        config_of(saved(tmp_path, "llama"), hidden_size="wide")
    assert caught.value.exit_code == ExitCode.RECIPE


@pytest.mark.parametrize(
    ("rope", "window"),
    [
        ({"rope_type": "default", "rope_theta": 1e4}, 64),
        ({"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}, 64),
        ({"rope_type": "yarn", "rope_theta": 1e4, "factor": 2.0, "original_max_position_embeddings": 32}, 32),
        ({"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}, None),
    ],
)
@pytest.mark.parametrize("nested", [False, True], ids=["flat", "by layer type"])
def test_original_window(rope: dict[str, Any], window: int | None, nested: bool) -> None:
    """The pre-training window is what the config holds of it; linear scaling leaves no trace, and it is asked for."""
    sliding = {"rope_type": "default", "rope_theta": 1e4}
    parameters = {"full_attention": dict(rope), "sliding_attention": sliding} if nested else dict(rope)
    config = AutoConfig.for_model("gemma3_text" if nested else "llama", **SIZES, rope_parameters=parameters)
    section = ModelSection(name_or_path="some/model")
    if window is not None:
        assert original_window(section, config) == window
        return
    with pytest.raises(CtxkitError, match="extended by linear scaling, does not say its pre-training window"):
        original_window(section, config)
