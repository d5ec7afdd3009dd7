"""Adapters: LoRA by peft around a stage's model, handed on from stage to stage, with the embeddings of new tokens."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from peft import LoraConfig, PeftModel, get_peft_model, load_peft_weights, set_peft_model_state_dict
from peft.utils.constants import EMBEDDING_LAYER_NAMES
from transformers import PreTrainedModel

from ctxkit.errors import CtxkitError, ExitCode, RecipeError
from ctxkit.reading import Located
from ctxkit.recipe import Stage
from ctxkit.train.head import LM_HEAD_BIAS
from ctxkit.train.model import refusal
from ctxkit.train.progress import say
from ctxkit.train.saved_adapter import read_adapter, write_beside

EMBEDDINGS = frozenset(EMBEDDING_LAYER_NAMES)
CONFIG = "adapter_config.json"
"""The file by which a folder is known as an adapter, as peft writes it."""


def lora_config(located: Located, stage: Stage) -> LoraConfig | None:
    """Return the adapter of a stage, or None; peft itself judges the values.

    Raises:
        RecipeError: peft refuses them.
    """
    if stage.adapter is None:
        return None
    fields = {key: _plain(value) for key, value in stage.adapter.items()}
    if located.recipe.model.lm_head_bias:
        fields["modules_to_save"] = [*(fields.get("modules_to_save") or ()), LM_HEAD_BIAS]
    try:
        return LoraConfig(task_type="CAUSAL_LM", **fields)
    except (ValueError, TypeError, ImportError) as error:
        message = f"peft refuses these values: {' '.join(str(error).split())}"
        raise RecipeError([located.fault(stage.name, ("adapter",), message)]) from error


def in_full_precision(model: Any, folder: Path | None) -> Any:
    """Return an adapted model whose trained parameters are float32, as peft makes those of LoRA and no others.

    Norms and embeddings that are trained beside an adapter come in the type of the frozen weights, and in 16 bits
    small updates of them would be rounded away. Needs mixed precision, which computes in 16 bits all the same.

    Args:
        model: The model.
        folder: Where its adapter came from; it is read again, because the first time it was rounded.
    """
    for parameter in model.parameters():
        if parameter.requires_grad and parameter.dtype in (torch.bfloat16, torch.float16):
            parameter.data = parameter.data.float()
    if folder is not None:
        set_peft_model_state_dict(model, load_peft_weights(str(folder), device="cpu"))
    return model


def in_base_type(model: Any) -> Any:
    """Return an adapted model whose trained parameters have the type of its frozen weights, for ZeRO-3.

    DeepSpeed puts what is trained into one buffer of one type, computes without autocast, and in 0.19.2 gathers
    the small parameters in the type of the first (DeepSpeed issue 8072). Its optimizer keeps them in float32, so that
    small updates are not rounded away; what is saved is in 16 bits. TRL makes adapters so too (SFTTrainer.__init__).
    """
    frozen = (weight for weight in model.parameters() if not weight.requires_grad)
    kind = next(weight.dtype for weight in frozen if weight.is_floating_point())
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(kind)
    return model


def adapted(
    model: PreTrainedModel, config: LoraConfig, folder: Path | None, new_tokens: int, *, tie: bool = True
) -> Any:
    """Return a model with an adapter to train: that of a folder, or a new one.

    Args:
        model: The model, its RoPE scaled.
        config: Of the new adapter.
        folder: The adapter to go on with, of the stage before.
        new_tokens: How many tokens have embeddings that nobody has trained; where there are any, the embeddings are
            trained with the adapter. peft can train single rows (`trainable_token_indices`), but not beside the loss
            of TRL 1.16, which reads the weight of the output embeddings as it was.
        tie: Whether embeddings that are tied stay so when they are trained, which peft does only when it is asked to.

    Raises:
        CtxkitError: peft finds no module of the names that the recipe asks for.
    """
    if folder is not None:
        return _loaded(model, folder, trainable=True)
    names = [name for name in _embeddings(model) if name not in (config.modules_to_save or ())]
    if new_tokens and names:
        config.modules_to_save = [*(config.modules_to_save or ()), *names]
        say(f"{new_tokens} tokens are new to the model: {' and '.join(names)} are trained with the adapter")
    if model.config.get_text_config().tie_word_embeddings and EMBEDDINGS & set(config.modules_to_save or ()):
        _refuse_beside_bias(config)
        config.ensure_weight_tying = config.ensure_weight_tying or tie
    _refuse_missing(model, config.modules_to_save or (), "see `adapter.modules_to_save` in the recipe")
    try:
        return get_peft_model(model, config)
    except (ValueError, TypeError) as error:
        said = f"the adapter does not fit {type(model).__name__}: {refusal(error)}"
        raise CtxkitError(said, "see `adapter` in the recipe", exit_code=ExitCode.RECIPE) from error


def _refuse_beside_bias(config: LoraConfig) -> None:
    """Refuse what would lose the bias of the output layer.

    Raises:
        CtxkitError: with exit code 2.
    """
    if LM_HEAD_BIAS in (config.modules_to_save or ()):
        said = (
            "tied embeddings cannot be trained beside a bias of the output layer: peft puts the embedding in its place"
        )
        raise CtxkitError(said, "leave out one of model.lm_head_bias and the embeddings", exit_code=ExitCode.RECIPE)


def _refuse_missing(model: Any, wanted: Sequence[str], hint: str) -> None:
    """Refuse modules to be trained whole that the model does not have: peft would leave them out without a word.

    Raises:
        CtxkitError: with exit code 2, and the names.
    """
    modules = [name for name, _ in model.named_modules()]
    missing = [end for end in wanted if not any(name.endswith(end) for name in modules)]
    if missing:
        said = f"{type(model).__name__} has no module named {' or '.join(missing)}"
        raise CtxkitError(said, hint, exit_code=ExitCode.RECIPE)


def with_adapter(model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """Return a model with a trained adapter: merged into its weights, or around them where they are quantized.

    Raises:
        CtxkitError: the adapter was trained beside another model, or a file of it is damaged.
    """
    wrapped = _loaded(model, folder, trainable=False)
    if getattr(model, "quantization_method", None) is not None:
        return cast("PreTrainedModel", wrapped)
    merged: Any = wrapped
    return cast("PreTrainedModel", merged.merge_and_unload())


def _loaded(model: PreTrainedModel, folder: Path, *, trainable: bool) -> PeftModel:
    saved = read_adapter(folder, f"in {folder}").config
    hint = "if it is the bias of the output layer, write model.lm_head_bias: true"
    _refuse_missing(model, getattr(saved, "modules_to_save", None) or (), f"{folder} brings its weights; {hint}")
    try:
        return PeftModel.from_pretrained(model, str(folder), is_trainable=trainable)
    except (ValueError, TypeError, RuntimeError, KeyError) as error:
        said = f"the adapter in {folder} does not fit the model: {refusal(error)}"
        hint = "is it of this model? Where it brings tokens of its own, name its folder in tokenizer.name_or_path"
        raise CtxkitError(said, hint, exit_code=ExitCode.RECIPE) from error


def save_config(model: Any, folder: Path, merged: Sequence[str] = ()) -> None:
    """Write the config of the adapted model beside the adapter: an adapter alone does not carry its RoPE.

    Args:
        model: The adapted model.
        folder: Where its adapter was saved.
        merged: The stages whose adapters were merged into the weights around which it lies, in order.
    """
    base = model.get_base_model()
    base.config.save_pretrained(folder)
    if merged:
        write_beside(folder, base.name_or_path, merged)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _embeddings(model: Any) -> list[str]:
    """Return the names of the modules that hold a row for each token: the input's, the output's where it is another."""
    modules = [model.get_input_embeddings()]
    if not model.config.get_text_config().tie_word_embeddings:
        modules.append(model.get_output_embeddings())
    named = {id(module): name.rpartition(".")[2] for name, module in model.named_modules()}
    return [named[id(module)] for module in modules]
