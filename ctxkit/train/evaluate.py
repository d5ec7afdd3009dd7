"""Evals of a stage, on the model as it was saved: what is measured is what a server would load."""

from __future__ import annotations

import gc
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from transformers import AutoConfig, PreTrainedModel, PreTrainedTokenizerBase

from ctxkit.identity import used
from ctxkit.provenance import source_hash
from ctxkit.rundir import RunDirectory, read_json, write_json
from ctxkit.spec import Context, EvalOptions, EvalReport, ModelRequest
from ctxkit.train.model import make_model
from ctxkit.train.progress import say
from ctxkit.train.rope import ExtendedRope, check_rope


def evaluate(
    name: str,
    evals: Sequence[EvalOptions],
    directory: RunDirectory,
    load: Callable[[], PreTrainedModel],
    context: Context,
) -> tuple[EvalReport, ...]:
    """Return the reports of a stage's evals in order.

    What was measured before by the same eval, with the same options and source code, is read and not measured again.
    """
    model: PreTrainedModel | None = None
    tokenizer = cast("PreTrainedTokenizerBase", context.tokenizer)
    reports, paths = [], []
    for index, options in enumerate(evals):
        path = directory.evaluation(name, index, options.kind)
        key = _key(options, context)
        if read_json(path).get("key") != key:
            model = model or load()
            say(f"{name}: measuring {options.kind}")
            with torch.no_grad():
                write_json(path, {"key": key, **options.build(context)(model, tokenizer).to_json()})
        paths.append(path)
        reports.append(EvalReport.from_json(read_json(path)))
    for left in set(directory.evaluation(name, 0, "").parent.glob("*.json")) - set(paths):
        left.unlink()  # of an eval that the recipe no longer has
    del model
    gc.collect()
    return tuple(reports)


def _key(options: EvalOptions, context: Context) -> str:
    """Return the hash of what determines a measurement, but for the model."""
    sources = [source_hash(type(component)) for component in used(options)]
    described = json.dumps([options.model_dump(mode="json"), sources, context.seed], sort_keys=True)
    return hashlib.sha256(described.encode()).hexdigest()[:16]


def on_device(model: PreTrainedModel) -> PreTrainedModel:
    """Return a model ready to be measured, on the accelerator where there is one."""
    moved: Any = model
    if torch.accelerator.is_available():
        moved.to(torch.accelerator.current_accelerator())
    moved.eval()
    return model


def load_saved(folder: Path, rope: ExtendedRope | None, attn_implementation: str | None) -> PreTrainedModel:
    """Return the model saved in a folder, its rotary frequencies compared with what the recipe asked for."""
    config = AutoConfig.from_pretrained(folder)
    load = {"dtype": "auto"}
    if attn_implementation:
        load["attn_implementation"] = attn_implementation
    model = make_model(ModelRequest(folder.parent.name, config, str(folder), load))
    check_rope(model, rope)
    return on_device(model)
