"""The answer to a plan: does it fit, how long, what does it cost, what would one change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ctxkit.errors import CtxkitError, ExitCode
from ctxkit.spec import PlanAnswer
from ctxkit_planner.parameters import parameters
from ctxkit_planner.published import published_config
from ctxkit_planner.setups import setup_of
from ctxkit_planner.shape import shape_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ctxkit.spec import PlanRequest


def parameter_answer(request: PlanRequest) -> PlanAnswer | None:
    """Return the parameters of each stage; None where the model's config is not at hand."""
    config, _ = config_of(request)
    if config is None:
        return None
    shape = shape_of(config)
    stages = {}
    for stage in request.stages:
        found = parameters(shape, setup_of(request.recipe, stage, config, 1).adapter)
        stages[stage.name] = {"parameters": found.total, "trainable": found.trainable if stage.trains else 0}
    total = parameters(shape).base
    return PlanAnswer({"parameters": total, "stages": stages}, f"{billions(total)} parameters")


def config_of(request: PlanRequest) -> tuple[Mapping[str, Any] | None, str]:
    """Return the config of the model and where it was read; the list of published shapes stands in."""
    if request.config is not None:
        return request.config, request.config_source
    listed = published_config(request.model)
    if listed is None:
        return None, request.config_source
    over = (request.recipe.get("model") or {}).get("config") or {}
    return {**listed, **over}, f"its published shape, as ctxkit lists it ({request.config_source})"


def needed_config(request: PlanRequest) -> tuple[Mapping[str, Any], str]:
    """Return the same.

    Raises:
        CtxkitError: the model's shape is not to be had; says how to write it.
    """
    config, source = config_of(request)
    if config is None:
        message = f"the shape of {request.model} is not known here: {source}"
        hint = (
            "accept its licence and log in with `hf auth login`, or write its shape as `model.config`: model_type, "
            "hidden_size, intermediate_size, num_hidden_layers, num_attention_heads, num_key_value_heads, vocab_size"
        )
        raise CtxkitError(message, hint, exit_code=ExitCode.RECIPE)
    return config, source


def billions(count: float) -> str:
    """Return a number of parameters for a person: 8.03 B, 13.6 M."""
    for unit, size in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.0f}"
