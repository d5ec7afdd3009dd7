"""Evals of a stage, on the model as it was saved: what is measured is what a server would load."""

from __future__ import annotations

import gc
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, cast

import torch
from transformers import AutoConfig, PreTrainedModel, PreTrainedTokenizerBase

from ctxkit import launch
from ctxkit.identity import used
from ctxkit.provenance import source_hash
from ctxkit.rundir import RunDirectory, read_json, write_json
from ctxkit.spec import Context, EvalOptions, EvalReport, ModelRequest
from ctxkit.train.cells import POLL_SECONDS, SavedCells, ShareDone
from ctxkit.train.layout import whole_weights
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
    """Return the reports of a stage's evals in order; to be called in every process.

    What was measured before by the same eval, with the same options and source code, is read and not measured again;
    of one that was killed, the finished cells.
    """

    @cache
    def loaded() -> PreTrainedModel:
        with whole_weights():
            return load()

    wanted = [
        _Wanted(options, directory.evaluation(name, index, options.kind), _key(options, context))
        for index, options in enumerate(evals)
    ]
    for one in wanted:
        if not one.measured() and (launch.rank() == 0 or one.options.in_cells):
            say(f"{name}: measuring {one.options.kind}")
            one.measure(loaded, context)
    _join(wanted)
    if launch.rank() == 0:
        _clear(directory.evaluation(name, 0, "").parent, wanted)
    loaded.cache_clear()
    gc.collect()
    return tuple(EvalReport.from_json(read_json(one.path)) for one in wanted)


@dataclass(frozen=True)
class _Wanted:
    """One eval, and where its report belongs."""

    options: EvalOptions
    path: Path
    key: str
    """What the file says that holds the report of this very eval."""

    @property
    def cells(self) -> Path:
        """Where its finished cells lie until it is measured."""
        return self.path.with_name(f".{self.path.stem}-{self.key}")

    def measured(self) -> bool:
        return bool(read_json(self.path).get("key") == self.key)

    def measure(self, load: Callable[[], PreTrainedModel], context: Context) -> None:
        """Write the report, in the first process; measure a share of the cells in the others."""
        own = replace(context, cells=SavedCells(self.cells, self.measured))
        try:
            with torch.no_grad():
                report = self.options.build(own)(load(), cast("PreTrainedTokenizerBase", context.tokenizer))
        except ShareDone:
            return
        if launch.rank() == 0:
            write_json(self.path, {"key": self.key, **report.to_json()})
            shutil.rmtree(self.cells, ignore_errors=True)


def _join(wanted: Sequence[_Wanted]) -> None:
    """Wait for the reports that the first process has yet to write."""
    while not all(one.measured() for one in wanted):
        time.sleep(POLL_SECONDS)


def _clear(folder: Path, wanted: Sequence[_Wanted]) -> None:
    """Remove what evals left that the recipe no longer has."""
    for left in set(folder.glob("*.json")) - {one.path for one in wanted}:
        left.unlink()
    for cells in folder.glob(".*"):
        shutil.rmtree(cells, ignore_errors=True)


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
