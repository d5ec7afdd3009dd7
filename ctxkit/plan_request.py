"""A checked recipe in the words that a planner asks for, with what its run directory counts."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any, Literal

from ctxkit import identity
from ctxkit.model_configs import find_config
from ctxkit.rundir import read_json
from ctxkit.settings import effective, sft_settings
from ctxkit.sft_fields import sft_fields
from ctxkit.spec.planning import Hardware, PlannedRows, PlannedStage, PlanRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ctxkit.reading import Located
    from ctxkit.recipe import Stage
    from ctxkit.rundir import RunDirectory


def plan_request(
    located: Located,
    question: Literal["parameters", "plan", "advice"],
    hardware: Hardware = Hardware(),  # noqa: B008 - frozen
    directory: RunDirectory | None = None,
    *,
    network: bool = False,
) -> PlanRequest:
    """Return what a planner is asked about a recipe; `directory` may hold its prepared data.

    The model's config is fetched from the hub only with `network`.
    """
    recipe = located.recipe
    config = find_config(recipe.model, recipe.tokenizer, network=network)
    keys = _data_keys(directory)
    return PlanRequest(
        question=question,
        recipe=identity.plain(recipe),
        model=recipe.model.name_or_path or "",
        config=config.values,
        config_source=config.source,
        stages=tuple(_stage(located, stage, _rows(directory, keys.get(stage.name))) for stage in recipe.stages),
        hardware=hardware,
    )


def _stage(located: Located, stage: Stage, prepared: PlannedRows | None) -> PlannedStage:
    settings = sft_settings(located, stage)
    steps = int(effective(settings, "max_steps"))
    return PlannedStage(
        name=stage.name,
        trains=stage.trains,
        settings={**_defaults(), **{key: setting.value for key, setting in settings.items()}},
        adapter=stage.adapter,
        row_length=stage.data.row_length,
        document_mask=stage.data.packing is not None and stage.data.packing.document_mask,
        steps=steps if steps >= 0 else None,
        max_tokens=stage.data.max_tokens,
        positions_skip=stage.data.skips,
        mlp_tile_tokens=min((tile for patch in stage.patches if (tile := patch.mlp_tile_tokens)), default=None),
        prepared=prepared,
    )


def _defaults() -> dict[str, Any]:
    """Return the default of every field of SFTConfig that is a plain constant."""
    found = {}
    for name, field in sft_fields().items():
        try:
            found[name] = ast.literal_eval(field.default)
        except (ValueError, SyntaxError):
            continue
    return found


def _data_keys(directory: RunDirectory | None) -> Mapping[str, Any]:
    """Return the key of the prepared data of each stage by name; empty where none is recorded."""
    found = read_json(directory.data_index).get("stages") if directory and directory.path.is_dir() else None
    return found if isinstance(found, dict) else {}


def _rows(directory: RunDirectory | None, key: object) -> PlannedRows | None:
    """Return the rows that a manifest counts, or None where it is not there or of another format."""
    if directory is None or not isinstance(key, str):
        return None
    train: Any = read_json(directory.data(key) / "manifest.json").get("train")
    if not isinstance(train, dict):
        return None
    counts: dict[str, Any] = {name: train.get(name) for name in ("rows", "tokens", "tokens_trained", "longest")}
    return PlannedRows(**counts) if all(type(count) is int for count in counts.values()) else None
