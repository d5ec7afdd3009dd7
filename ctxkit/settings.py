"""The arguments that a stage's SFTConfig gets: what the recipe says, what ctxkit adds, and why."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

from ctxkit.layers import Node
from ctxkit.layouts import Setting, layout, layout_settings
from ctxkit.sft_fields import sft_fields

if TYPE_CHECKING:
    from collections.abc import Callable

    from ctxkit.reading import Located
    from ctxkit.recipe import Recipe, Stage

BATCH = "per_device_train_batch_size"
ACCUMULATION = "gradient_accumulation_steps"
RATE_RULE = r"(?P<base>[0-9]+(\.[0-9]*)?([eE][-+]?[0-9]+)?) */ *((?P<root>sqrt\(factor\))|factor)"
_RULE = re.compile(RATE_RULE)


def sft_settings(located: Located, stage: Stage) -> dict[str, Setting]:
    """Return what is passed to SFTConfig for a stage; everything else keeps TRL's own default.

    `output_dir`, and `use_cpu` where no accelerator is found, are added when the run starts.
    """
    tree = located.stages[stage.name]
    stated = {key: Setting(value, str(tree.nearest(("train", key))[0].origin)) for key, value in stage.train.items()}
    stated |= layout_settings(located, stage)
    if "learning_rate" in stated:
        stated["learning_rate"] = _rate(located.recipe, stage, stated["learning_rate"])
    added = {
        "max_length": Setting(stage.data.row_length, "follows from data.chunker.length"),
        "logging_nan_inf_filter": Setting(value=False, origin="ctxkit: a loss that is not finite must be seen"),
        "include_num_input_tokens_seen": Setting("non_padding", "ctxkit: tokens are counted across interruptions"),
        "disable_tqdm": Setting(value=True, origin="ctxkit: it shows its own progress"),
    }
    kept = {"skip_prepare_dataset": True}
    added["dataset_kwargs"] = Setting(kept, "ctxkit: chunks are trained as they are, never cut again")
    added["remove_unused_columns"] = Setting(value=False, origin="ctxkit: rows are put together on demand")
    if stage.data.packing is not None and stage.data.packing.document_mask and layout(located, stage).sp == 1:
        added["packing"] = Setting(
            value=True, origin="follows from data.packing.document_mask; the rows are packed already"
        )
    steps = accumulation(located, stage)
    if steps is not None:
        parent = located.recipe.trained_parent(stage)
        origin = f"follows from stage {parent.name if parent else ''}: the tokens of a step stay the same"
        stated[ACCUMULATION] = Setting(steps, origin)
    return {**added, **_logged(stage), **stated, **_served(stage)}


def factor(recipe: Recipe, stage: Stage) -> float | None:
    """Return the factor of the RoPE scaling in force for a stage, 1 without any; None if the model must be read for it.

    An adapter that the recipe starts with may bring a scaling, which only a run finds.
    """
    scaling, original = recipe.rope(stage), recipe.model.stated_window
    if scaling is None:
        return 1.0 if recipe.model.adapter_name_or_path is None else None
    return scaling.scale(original or 0) if scaling.factor is not None or original else None


def rate_rule(value: object) -> Callable[[float], float] | None:
    """Return the learning rate by factor that a rule means, such as `2.0e-5 / sqrt(factor)`; None for no such rule."""
    match = _RULE.fullmatch(value) if isinstance(value, str) else None
    if match is None or not math.isfinite(float(match["base"])):
        return None
    base, by = float(match["base"]), math.sqrt if match["root"] else float
    return lambda factor: base / by(factor)


def _rate(recipe: Recipe, stage: Stage, written: Setting) -> Setting:
    """Return a learning rate that a rule says as the number that it comes to."""
    rule, by = rate_rule(written.value), factor(recipe, stage)
    if rule is None or by is None:
        return written
    return Setting(rule(by), f"{written.origin}: {written.value}, with factor {by:g}")


def accumulation(located: Located, stage: Stage) -> int | None:
    """Return the accumulation that keeps the tokens of a step as they are in the stage before, where rows differ.

    None where the stage states a batch size or an accumulation itself, or nothing changes. Where no whole number keeps
    them, the next greater one.
    """
    parent = located.recipe.trained_parent(stage)
    own = located.own[stage.name].child("train")
    if parent is None or (own and any(own.child(key) for key in (BATCH, ACCUMULATION))):
        return None
    shared = [layout(located, each).per_row for each in (parent, stage)]
    same = parent.data.row_length == stage.data.row_length and shared[0] == shared[1]
    if same and accumulation(located, parent) is None:
        return None
    settings = sft_settings(located, parent)
    tokens = effective(settings, BATCH) * effective(settings, ACCUMULATION) * parent.data.row_length
    row = int(stage.train.get(BATCH, effective({}, BATCH))) * stage.data.row_length
    return max(-(-int(tokens) * shared[1] // (row * shared[0])), 1)


def _logged(stage: Stage) -> dict[str, Setting]:
    """Return what a curriculum needs unless the recipe says otherwise."""
    if stage.curriculum is None:
        return {}
    return {"logging_steps": Setting(1, "follows from curriculum: phases are summed up from the logs of their steps")}


def _served(stage: Stage) -> dict[str, Setting]:
    """Return what makes the trainer serve the rows of a curriculum once, in its order."""
    if stage.curriculum is None:
        return {}
    return {
        "train_sampling_strategy": Setting("sequential", "follows from curriculum: it decides on the order"),
        "num_train_epochs": Setting(1, "follows from curriculum: it repeats the rows itself"),
    }


def effective(settings: dict[str, Setting], name: str) -> Any:
    """Return a setting, or TRL's default where it is a plain constant."""
    if name in settings:
        return settings[name].value
    default = sft_fields()[name].default
    return int(default) if default.lstrip("-").isdigit() else default


def tokens_per_step(located: Located, stage: Stage, num_processes: int) -> int:
    """Return the most tokens that one optimizer step can see: batch x accumulation x processes x chunk length.

    Processes that share a row count as one.
    """
    settings = sft_settings(located, stage)
    batch = effective(settings, BATCH) * effective(settings, ACCUMULATION)
    return int(batch) * num_processes * stage.data.row_length // layout(located, stage).per_row


def seed(stage: Stage) -> int:
    """Return the seed of a stage: `train.seed`, or TRL's default."""
    return int(stage.train.get("seed", sft_fields()["seed"].default))


def written(located: Located) -> dict[str, dict[str, Any]]:
    """Return every value of a recipe by its dotted path, each with `value` and `origin`: where it was written."""
    values = _leaves(located.head, "")
    for stage in located.recipe.stages:
        tree = {key: node for key, node in located.stages[stage.name].value.items() if key not in ("name", "train")}
        values |= _leaves(Node(tree, located.stages[stage.name].origin), f"stages.{stage.name}")
        for key, setting in sft_settings(located, stage).items():
            values[f"stages.{stage.name}.train.{key}"] = {"value": setting.value, "origin": setting.origin}
    return values


def _leaves(node: Node, path: str) -> dict[str, dict[str, Any]]:
    if isinstance(node.value, dict) and node.value:
        parts = node.value.items()
    elif isinstance(node.value, list) and any(isinstance(item.value, dict | list) for item in node.value):
        parts = ((str(index), item) for index, item in enumerate(node.value))  # type: ignore[assignment]
    else:
        return {path: {"value": node.plain(), "origin": str(node.origin)}}
    return {key: value for part, child in parts for key, value in _leaves(child, f"{path}.{part}".lstrip(".")).items()}
