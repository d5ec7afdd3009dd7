"""The search for rotary factors: what is measured is journaled, and the result is written whole."""

from __future__ import annotations

import copy
from dataclasses import fields
from pathlib import Path
from typing import Any

import transformers

from ctxkit import __version__
from ctxkit.errors import ResumeError
from ctxkit.reading import Located
from ctxkit.rundir import read_json, write_json
from ctxkit.searches import MADE_BY, chosen, differences
from ctxkit.spec import Context, RopeSearchContext
from ctxkit.train.blame import Blame
from ctxkit.train.disk import full_disk_said
from ctxkit.train.evaluate import on_device
from ctxkit.train.journal import Journal, opened
from ctxkit.train.measuring import Measure
from ctxkit.train.model import make_model, request_model
from ctxkit.train.progress import Bar, say
from ctxkit.train.search_inputs import SearchInputs, search_inputs
from ctxkit.train.signals import StopSignal


def search_located(located: Located, stage_name: str | None) -> Path:
    """Search the factors of a stage's `rope`, as its recipe declares; return the file of the result.

    A finished search is recognised; a search that was stopped goes on where it was, and ends as it would have.

    Raises:
        CtxkitError: there is nothing to search, the file holds another search, or a signal came.
    """
    stage, rope, plan = chosen(located.recipe, stage_name)
    transformers.utils.logging.disable_progress_bar()
    stop = StopSignal()
    with stop.installed(), full_disk_said(plan.file.absolute().parent):
        inputs = search_inputs(located.recipe, stage, rope, plan)
        determined_by = inputs.determined_by
        if plan.file.exists():
            _check_finished(plan.file, determined_by)
            say(f"{plan.file} is finished; nothing was searched again.")
            return plan.file
        with opened(journal_of(plan.file), determined_by) as journal:
            if journal.known:
                say(f"going on: {len(journal.known)} candidates were measured before")
            found = _search(inputs, journal)
            measured = {"evaluations": len(journal.known), MADE_BY: {"ctxkit": __version__, **determined_by}}
        write_json(plan.file, {**found, **measured})
    return plan.file


def journal_of(file: Path) -> Path:
    """Return the journal that lies beside a result."""
    return file.with_name(f"{file.name}.journal.jsonl")


def _check_finished(file: Path, determined_by: dict[str, Any]) -> None:
    """Refuse a result that is that of another search.

    Raises:
        ResumeError: with what differs.
    """
    made_by = read_json(file).get(MADE_BY)
    if not isinstance(made_by, dict):
        raise ResumeError(f"{file} is not the result of a search", "name another file, or remove this one")
    before = {key: value for key, value in made_by.items() if key != "ctxkit"}
    if changes := differences(before, determined_by):
        raise ResumeError(
            "\n  ".join([f"{file} is the result of a search with other values:", *changes]),
            f"undo the change to keep it; or name another file, or remove this one and {journal_of(file)}",
        )


def _search(inputs: SearchInputs, journal: Journal) -> dict[str, Any]:
    """Load the model, and let the kind search."""
    say(f"loading {inputs.recipe.model.name_or_path}")
    model = on_device(
        make_model(request_model(inputs.recipe.model, inputs.stage.name, None, copy.deepcopy(inputs.config)))
    )
    text = copy.deepcopy(inputs.config.get_text_config())
    with Bar("search", inputs.plan.evaluations) as bar:
        measure = Measure(model, inputs.config, inputs.context, inputs.documents, journal, bar)
        given = {field.name: getattr(inputs.context, field.name) for field in fields(Context)}
        context = RopeSearchContext(**given, config=text, measure=measure)
        with Blame(inputs.rope, "in its search"):
            return dict(inputs.rope.run_search(context))
