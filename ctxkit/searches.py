"""Searches that recipes declare: which stage has one, and whether its result is there."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ctxkit.errors import CtxkitError, ExitCode, said
from ctxkit.rundir import read_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from ctxkit.recipe import Recipe, Stage
    from ctxkit.spec import RopeOptions, RopeSearch

MADE_BY = "made_by"
"""The key of a result under which the core writes what determined it."""
OPTIONS = "rope"
"""The key of what determined it that holds the options of the recipe; the rest is found out with the model."""


def declared(recipe: Recipe) -> dict[str, RopeSearch]:
    """Return the search that each stage with a `rope` of its own declares, by its name."""
    plans = {stage.name: stage.rope.search_plan() for stage in recipe.stages if stage.rope is not None}
    return {name: plan for name, plan in plans.items() if plan is not None}


def chosen(recipe: Recipe, name: str | None) -> tuple[Stage, RopeOptions, RopeSearch]:
    """Return the stage whose search is meant, with its rope; stages with the very same search need no name.

    Raises:
        CtxkitError: with exit code 2, if there is none, or none of this name, or several and no name, or one file is
            named for the results of two.
    """
    plans = declared(recipe)
    known = f"stages with a search: {', '.join(plans)}" if plans else "no stage has a `rope` with a search"
    if name is not None and name not in plans:
        raise CtxkitError(f"stage {name} declares no search of its rope", known, exit_code=ExitCode.RECIPE)
    if not plans:
        hint = "such as `rope: {kind: longrope, factors: FILE.json, search: {source: ...}}`"
        raise CtxkitError(f"{known}, so there is nothing to search", hint, exit_code=ExitCode.RECIPE)
    _check_files(plans)
    if name is None and len({plan.file for plan in plans.values()}) > 1:
        raise CtxkitError("several stages declare a search", f"{known}; choose with --stage", exit_code=ExitCode.RECIPE)
    taken = name or next(iter(plans))
    stage, rope = next((stage, stage.rope) for stage in recipe.stages if stage.name == taken and stage.rope)
    return stage, rope, plans[taken]


def _check_files(plans: Mapping[str, RopeSearch]) -> None:
    """Refuse one file for the results of two searches: whichever comes second would be refused.

    Raises:
        CtxkitError: with exit code 2.
    """
    first: dict[Path, str] = {}
    for name, plan in plans.items():
        other = first.setdefault(plan.file, name)
        if plan != plans[other]:
            said = f"stages {other} and {name} name one file for the results of two searches: {plan.file}"
            raise CtxkitError(said, "name a file of its own for each", exit_code=ExitCode.RECIPE)


def unfit(plan: RopeSearch) -> str:
    """Return why the result that a recipe needs is not there; an empty text where it is."""
    if not plan.file.exists():
        return f"{plan.file} does not exist yet"
    found = read_json(plan.file).get(MADE_BY)
    if not isinstance(found, dict):
        return f"{plan.file} is not the result of a search, and one is declared beside it"
    changes = differences(found.get(OPTIONS), jsonable(plan.determined_by), OPTIONS)
    return f"{plan.file} was found by another search ({'; '.join(changes)})" if changes else ""


def jsonable(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return plain values as they come back from JSON."""
    plain: dict[str, Any] = json.loads(json.dumps(value))
    return plain


def differences(old: Any, new: Any, path: str = "") -> list[str]:
    """Return each value that differs between two trees as `path: old -> new`."""
    return [f"{where}: {said(before)} -> {said(after)}" for where, before, after in _differing(old, new, path)]


def _differing(old: Any, new: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in {**old, **new}:
            yield from _differing(old.get(key), new.get(key), f"{path}.{key}".lstrip("."))
    elif old != new:
        yield path, old, new
