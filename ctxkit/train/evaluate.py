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
from ctxkit.errors import ResumeError
from ctxkit.identity import used
from ctxkit.provenance import source_hash
from ctxkit.rundir import RunDirectory, read_json, write_json
from ctxkit.spec import Context, EvalOptions, EvalReport, ModelRequest
from ctxkit.train.cells import POLL_SECONDS, SavedCells, ShareDone
from ctxkit.train.keys import fingerprints
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

    What was measured before by the same eval, with the same options and source code, is read and not measured again,
    but for cells that failed; of one that was killed, the finished cells. What the recipe no longer has is removed.

    Raises:
        ResumeError: the texts that an eval reads changed since it was measured, or began to be.
    """
    wanted = [
        Wanted.of(options, directory.evaluation(name, index, options.kind), eval_key(options, context))
        for index, options in enumerate(evals)
    ]
    reports = measure_all(name, wanted, load, context)
    if launch.rank() == 0:
        _clear(directory.evaluation(name, 0, "").parent, wanted)
    return reports


def measure_all(
    name: str, wanted: Sequence[Wanted], load: Callable[[], PreTrainedModel], context: Context
) -> tuple[EvalReport, ...]:
    """Measure what is not measured yet, the model loaded once for all of it; return the reports."""

    @cache
    def loaded() -> PreTrainedModel:
        with whole_weights():
            return load()

    for one in wanted:
        if launch.rank() == 0:
            one.check_texts(context)
        if not one.measured() and (launch.rank() == 0 or one.options.in_cells):
            say(f"{name}: measuring {one.options.kind}")
            one.measure(loaded, context)
    _join(wanted)
    loaded.cache_clear()
    gc.collect()
    return tuple(EvalReport.from_json(read_json(one.path)) for one in wanted)


@dataclass(frozen=True)
class Wanted:
    """One eval, and where its report belongs."""

    options: EvalOptions
    path: Path
    key: str
    """What the file says that holds the report of this very eval."""
    attempt: int
    """How often it was measured to its end with some cells that failed."""

    @classmethod
    def of(cls, options: EvalOptions, path: Path, key: str) -> Wanted:
        """Look whether it was measured before, and whether some of it failed."""
        before = read_json(path)
        again = before.get("key") == key and before.get("failures") and options.in_cells
        return cls(options, path, key, int(before.get("attempt", 1)) if again else 0)

    @property
    def cells(self) -> Path:
        """Where its finished cells lie until all of them are measured."""
        return self.path.with_name(f".{self.options.kind}-{self.key}")

    def measured(self) -> bool:
        """Return whether its report is there, and nothing of it is to be tried once more."""
        there = read_json(self.path)
        return there.get("key") == self.key and int(there.get("attempt", 1)) > self.attempt

    def check_texts(self, context: Context) -> None:
        """Refuse to go on with texts that are not those which were measured; only in the first process.

        Raises:
            ResumeError: with what to do.
        """
        texts, begun = fingerprints(self.options, context), self.cells / "texts.json"
        there = read_json(self.path)
        before = there.get("texts") if there.get("key") == self.key else read_json(begun).get("texts")
        if before is not None and before != texts:
            left = self.path if there.get("key") == self.key else self.cells
            raise ResumeError(
                f"the texts that {self.options.kind} reads changed since it was measured in {self.path.parent}",
                f"bring them back, or remove {left} to measure it anew",
            )
        if not self.measured():
            write_json(begun, {"texts": texts})

    def measure(self, load: Callable[[], PreTrainedModel], context: Context) -> None:
        """Write the report, in the first process; measure a share of the cells in the others."""
        own = replace(context, cells=SavedCells(self.cells, self.measured, self.attempt))
        try:
            with torch.no_grad():
                report = self.options.build(own)(load(), cast("PreTrainedTokenizerBase", context.tokenizer))
        except ShareDone:
            return
        if launch.rank() == 0:
            about = {"key": self.key, "attempt": self.attempt + 1, "texts": fingerprints(self.options, context)}
            write_json(self.path, {**about, **report.to_json()})


def _join(wanted: Sequence[Wanted]) -> None:
    """Wait for the reports that the first process has yet to write, and leave no finished cells behind."""
    while not all(read_json(one.path).get("key") == one.key for one in wanted):
        time.sleep(POLL_SECONDS)
    for one in wanted:
        if launch.rank() == 0 and not read_json(one.path).get("failures"):
            shutil.rmtree(one.cells, ignore_errors=True)


def _clear(folder: Path, wanted: Sequence[Wanted]) -> None:
    """Remove what evals left that the recipe no longer has."""
    for left in set(folder.glob("*.json")) - {one.path for one in wanted}:
        left.unlink()
    for cells in set(folder.glob(".*")) - {one.cells for one in wanted}:
        shutil.rmtree(cells, ignore_errors=True)


def eval_key(options: EvalOptions, context: Context, model: str = "") -> str:
    """Return the hash of what determines a measurement; the model too, where the place does not say which it is."""
    sources = [source_hash(type(component)) for component in used(options)]
    parts = [options.model_dump(mode="json"), sources, context.seed, *([model] if model else [])]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def on_device(model: PreTrainedModel) -> PreTrainedModel:
    """Return a model ready to be measured, on the accelerator where there is one."""
    moved: Any = model
    if torch.accelerator.is_available():
        moved.to(torch.accelerator.current_accelerator())
    moved.eval()
    return model


def load_saved(folder: Path, rope: ExtendedRope | None, attn_implementation: str | None) -> PreTrainedModel:
    """Return the model saved in a folder, its rotary frequencies compared with what the recipe asked for."""
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    load = {"dtype": "auto"}
    if attn_implementation:
        load["attn_implementation"] = attn_implementation
    model = make_model(ModelRequest(folder.parent.name, config, str(folder), load))
    check_rope(model, rope)
    return on_device(model)
