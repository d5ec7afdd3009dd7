"""Evals of a stage, on the model as it was saved: what is measured is what a server would load."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from transformers import AutoConfig, PreTrainedModel, PreTrainedTokenizerBase

from ctxkit.rundir import RunDirectory, read_json, write_json
from ctxkit.spec import Context, EvalOptions, EvalReport, ModelRequest
from ctxkit.train.model import ExtendedRope, check_rope, make_model
from ctxkit.train.progress import say


def evaluate(
    name: str,
    evals: Sequence[EvalOptions],
    directory: RunDirectory,
    load: Callable[[], PreTrainedModel],
    context: Context,
) -> tuple[EvalReport, ...]:
    """Return the reports of a stage's evals in order; those measured before are read, not measured again."""
    model: PreTrainedModel | None = None
    tokenizer = cast("PreTrainedTokenizerBase", context.tokenizer)
    reports = []
    for index, options in enumerate(evals):
        path = directory.evaluation(name, index, options.kind)
        if not path.exists():
            model = model or load()
            say(f"{name}: measuring {options.kind}")
            with torch.no_grad():
                write_json(path, options.build(context)(model, tokenizer).to_json())
        reports.append(EvalReport.from_json(read_json(path)))
    del model
    gc.collect()
    return tuple(reports)


def on_device(model: PreTrainedModel) -> PreTrainedModel:
    """Return a model ready to be measured, on the accelerator where there is one."""
    moved: Any = model
    if torch.accelerator.is_available():
        moved.to(torch.accelerator.current_accelerator())
    moved.eval()
    return model


def load_saved(folder: Path, rope: ExtendedRope | None) -> PreTrainedModel:
    """Return the model saved in a folder, its rotary frequencies compared with what the recipe asked for."""
    config = AutoConfig.from_pretrained(folder)
    model = make_model(ModelRequest(folder.parent.name, config, str(folder), {"dtype": "auto"}))
    check_rope(model, rope)
    return on_device(model)
