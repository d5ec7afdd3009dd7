"""The model of a stage: the config of the model that the recipe starts with, and weights for it."""

from __future__ import annotations

import copy
import difflib
import inspect
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    BitsAndBytesConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging

from ctxkit.errors import CtxkitError, ExitCode
from ctxkit.recipe import ModelSection
from ctxkit.spec import ModelRequest
from ctxkit.trust import KERNEL, is_kernel, trusted

OWN_CODE = (
    "it needs Python code that lies beside it (`auto_map`), and ctxkit runs no code that a model brings; "
    "a plugin can build it from code that you installed (the hook `ctxkit_make_model`)"
)
"""What is said of a model or a tokenizer that transformers would load with `trust_remote_code` alone."""


def base_config(model: ModelSection, tokenizer: PreTrainedTokenizerBase | None) -> PreTrainedConfig:
    """Return the config of the model that the recipe starts with, before any scaling.

    Raises:
        CtxkitError: with exit code 2, if there is no such model or its config is refused.
    """
    try:
        config = _fresh_config(model, tokenizer) if model.name_or_path is None else _own_config(model)
        if model.config:
            _refuse_unknown(model.config, config)
            config = _laid_over(model, config) if model.name_or_path else config
    except CtxkitError:
        raise
    except Exception as error:
        raise CtxkitError(f"model: no config can be made: {refusal(error)}", exit_code=ExitCode.RECIPE) from error
    return config


def _own_config(model: ModelSection) -> PreTrainedConfig:
    config: PreTrainedConfig = AutoConfig.from_pretrained(
        str(model.name_or_path), revision=model.revision, trust_remote_code=False
    )
    _refuse_kernel(model, config)
    return config


def _refuse_kernel(model: ModelSection, config: PreTrainedConfig) -> None:
    """Refuse a model whose own config has a kernel of the hub loaded, which is code, where the recipe states no other.

    Raises:
        CtxkitError: with exit code 2, and how to go on.
    """
    asked = (config, *(getattr(config, name, None) for name in config.sub_configs))
    wanted = [name for part in asked if is_kernel(name := getattr(part, "_attn_implementation", None))]
    if wanted and not model.attn_implementation and KERNEL not in trusted():
        said = f"the config of {model.name_or_path} asks for the kernel {wanted[0]} of the hub, which is compiled code"
        hint = f"write model.attn_implementation: sdpa, or, if you trust it, add `--trust {KERNEL}`"
        raise CtxkitError(said, hint, exit_code=ExitCode.RECIPE)


def _fresh_config(model: ModelSection, tokenizer: PreTrainedTokenizerBase | None) -> PreTrainedConfig:
    fields: dict[str, Any] = dict(model.config or {})
    if tokenizer is not None:
        fields.setdefault("vocab_size", len(tokenizer))
        for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
            fields.setdefault(name, getattr(tokenizer, name))
    config: PreTrainedConfig = AutoConfig.for_model(**fields)
    return config


def _laid_over(model: ModelSection, config: PreTrainedConfig) -> PreTrainedConfig:
    """Return a model's config made anew with the fields that the recipe states: what follows from them follows."""
    fields = dict(model.config or {})
    stored, _ = PreTrainedConfig.get_config_dict(str(model.name_or_path), revision=model.revision)
    if "rope_parameters" in fields:
        for legacy in ("rope_scaling", "rope_theta"):  # transformers would prefer them
            stored.pop(legacy, None)
    laid: PreTrainedConfig = type(config).from_dict({**stored, **copy.deepcopy(fields)})
    return laid


def _refuse_unknown(stated: Mapping[str, Any], config: PreTrainedConfig) -> None:
    """Refuse keys that the architecture does not have: transformers would keep them and use none.

    Raises:
        CtxkitError: with the name that was probably meant.
    """
    with _quiet():  # the defaults of some classes do not please their own checks
        known = {"model_type", *type(config)().to_dict()}
    for key in stated:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean `{near[0]}`?" if near else f"see the documentation of {type(config).__name__}"
            said = f"model.config.{key}: {type(config).__name__} has no such field"
            raise CtxkitError(said, hint, exit_code=ExitCode.RECIPE)


@contextmanager
def _quiet() -> Iterator[None]:
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def refusal(error: Exception) -> str:
    """Return what a library said, as one line; the hub's own words do not say that a folder was looked for first."""
    said = " ".join(f"{type(error).__name__}: {error}".split())
    if isinstance(error, ValueError) and "trust_remote_code" in said:
        return OWN_CODE
    offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON")
    if isinstance(error, OSError) or "Repo id" in said:
        said += "; there is no folder of this name here"
        said += ", and HF_HUB_OFFLINE keeps from the hub" if offline else ""
    return said


def original_window(model: ModelSection, config: PreTrainedConfig) -> int:
    """Return the true pre-training window in tokens.

    Raises:
        CtxkitError: with exit code 2, if neither the recipe nor the config says it.
    """
    if model.original_max_position_embeddings:
        return model.original_max_position_embeddings
    text = config.get_text_config()
    rope = getattr(text, "rope_parameters", None) or {}
    rope = rope.get("full_attention") or rope
    window = rope.get("original_max_position_embeddings") or getattr(text, "max_position_embeddings", None)
    # transformers measures the growth of `dynamic` from the window of the config, which is thus the original one
    holds = rope.get("rope_type", "default") in ("default", "dynamic") or "original_max_position_embeddings" in rope
    if not window or not holds:
        scaling = f", which is extended by {rope['rope_type']} scaling," if not holds else ""
        said = f"the model's config{scaling} does not say its pre-training window"
        raise CtxkitError(said, "set model.original_max_position_embeddings", exit_code=ExitCode.RECIPE)
    return int(window)


def request_model(model: ModelSection, stage: str, weights: Path | None, config: PreTrainedConfig) -> ModelRequest:
    """Return what a stage asks for: weights of the stage before it, of the recipe's model, or none.

    Raises:
        CtxkitError: with exit code 2, if the quantization is refused.
    """
    source = str(weights) if weights else model.name_or_path
    load: dict[str, Any] = {"dtype": model.dtype}
    if model.quantization_config is not None:
        load["quantization_config"] = _quantization(model.quantization_config)
    if model.attn_implementation:
        load["attn_implementation"] = model.attn_implementation
    if model.revision and not weights:
        load["revision"] = model.revision
    return ModelRequest(stage, config, source, load)


def _quantization(fields: Mapping[str, Any]) -> BitsAndBytesConfig:
    known = inspect.signature(BitsAndBytesConfig.__init__).parameters
    for key in fields:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean `{near[0]}`?" if near else "it takes the fields of BitsAndBytesConfig"
            said = f"model.quantization_config.{key}: BitsAndBytesConfig has no such field"
            raise CtxkitError(said, hint, exit_code=ExitCode.RECIPE)
    try:
        return BitsAndBytesConfig(**fields)
    except (ValueError, TypeError, AttributeError, ImportError) as error:
        said = f"model.quantization_config: {refusal(error)}"
        raise CtxkitError(said, "pip install -e '.[gpu]' brings bitsandbytes", exit_code=ExitCode.RECIPE) from error


def make_model(request: ModelRequest) -> PreTrainedModel:
    """Return the model that a request asks for, with random weights where it names none."""
    try:
        if request.weights is None:
            # A fresh model was never saved in any type, so `auto` means transformers' own default.
            load = {name: value for name, value in request.load.items() if value != "auto"}
            model: PreTrainedModel = AutoModelForCausalLM.from_config(request.config, trust_remote_code=False, **load)
            return model
        loaded: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            request.weights, config=request.config, trust_remote_code=False, **request.load
        )
    except Exception as error:
        said = refusal(error)
        what = f"the model {request.weights} cannot be loaded" if request.weights else "no model can be made"
        raise CtxkitError(f"{what}: {said}", "see `model` in the recipe", exit_code=ExitCode.RECIPE) from error
    return loaded


def fit_embeddings(model: PreTrainedModel, added: Sequence[int]) -> None:
    """Give a model an embedding for each token that was added to its tokenizer, drawn around the mean of the others.

    Nothing changes where it has enough, as models whose vocabulary is padded have, nor where it lacks more than those:
    then it is not the model of this tokenizer. Source of the draw: transformers' `resize_token_embeddings` with
    `mean_resizing`.
    """
    embeddings: Any = model.get_input_embeddings()
    have = int(embeddings.weight.shape[0]) or model.config.get_text_config().vocab_size
    if added and min(added) <= have <= max(added):
        model.resize_token_embeddings(max(added) + 1)
