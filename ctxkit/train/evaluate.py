"""Evals of a stage, on the model as it was saved: what is measured is what a server would load."""

from __future__ import annotations

import gc
from pathlib import Path

import torch
from transformers import AutoConfig, AutoTokenizer, PreTrainedModel

from ctxkit.recipe import Stage
from ctxkit.rundir import RunDirectory, read_json, write_json
from ctxkit.spec import Context, EvalOptions, EvalReport, ModelRequest
from ctxkit.train.model import ExtendedRope, check_rope, make_model
from ctxkit.train.progress import say


def evaluate(stage: Stage, directory: RunDirectory, rope: ExtendedRope | None, context: Context) -> tuple[EvalReport, ...]:
    """Return the reports of a stage's evals in order; those measured before are read, not measured again."""
    model: PreTrainedModel | None = None
    reports = []
    for index, options in enumerate(stage.evals):
        path = directory.evaluation(stage.name, index, _kind(options))
        if not path.exists():
            model = model or load_saved(directory.model(stage.name), rope)
            say(f"stage {stage.name}: measuring {_kind(options)}")
            _measure(options, model, directory.model(stage.name), path, context)
        reports.append(EvalReport.from_json(read_json(path)))
    del model
    gc.collect()
    return tuple(reports)


def load_saved(folder: Path, rope: ExtendedRope | None) -> PreTrainedModel:
    """Return the model saved in a folder, its rotary frequencies compared with what the recipe asked for."""
    config = AutoConfig.from_pretrained(folder)
    model = make_model(ModelRequest(folder.parent.name, config, str(folder), {"dtype": "auto"}))
    check_rope(model, rope)
    if torch.accelerator.is_available():
        model.to(torch.accelerator.current_accelerator())
    return model.eval()


def _measure(options: EvalOptions, model: PreTrainedModel, folder: Path, path: Path, context: Context) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        report = options.build(context)(model, tokenizer)
    write_json(path, report.to_json())


def _kind(options: EvalOptions) -> str:
    return str(options.kind)  # type: ignore[attr-defined] # every component has a kind
