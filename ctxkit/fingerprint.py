"""What a run is known by: every key of a recipe is one that may change under a run, or one that may not."""

from __future__ import annotations

import ast
import json
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from ctxkit.masking import same
from ctxkit.sft_fields import sft_fields

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping


class Kind(StrEnum):
    """What a change of a key means to a run that goes on."""

    ORDER = "data order"
    """Other rows, another order, another model: refused, unless drift is allowed."""
    SCHEDULE = "schedule"
    """How the optimizer moves on the same rows: the checkpoint's own goes on, or the new one holds from its step on."""
    BATCH = "batch"
    """How the rows of a step are split, which may change as long as a step has as many."""
    FREE = "free"
    """What is said, measured, saved, or kept in memory: never what is trained."""


SCHEDULE = frozenset(
    (
        "learning_rate",
        "lr_scheduler_type",
        "lr_scheduler_kwargs",
        "warmup_steps",
        "warmup_ratio",
        "weight_decay",
        "max_steps",
        "num_train_epochs",
        "adam_beta1",
        "adam_beta2",
        "adam_epsilon",
        "max_grad_norm",
        "optim",
        "optim_args",
        "optim_target_modules",
    )
)
"""Keys of `train` that decide how the optimizer moves."""
LENGTH = frozenset(("max_steps", "num_train_epochs"))
"""Those of them that a curriculum orders its rows by."""
OPTIMIZER = frozenset(("optim", "optim_args", "optim_target_modules"))
"""Those of them after which the state of an optimizer is another's."""
BATCH = frozenset(("per_device_train_batch_size", "gradient_accumulation_steps"))
"""Keys of `train` whose product, times the processes, is the rows of a step."""
FREE = frozenset(
    (
        "logging_strategy",
        "logging_first_step",
        "logging_steps",
        "log_level",
        "log_level_replica",
        "log_on_each_node",
        "disable_tqdm",
        "report_to",
        "run_name",
        "project",
        "trackio_space_id",
        "trackio_bucket_id",
        "trackio_static_space_id",
        "save_strategy",
        "save_steps",
        "save_on_each_node",
        "save_total_limit",
        "push_to_hub",
        "hub_token",
        "hub_private_repo",
        "hub_model_id",
        "hub_strategy",
        "hub_always_push",
        "hub_revision",
        "per_device_eval_batch_size",
        "eval_accumulation_steps",
        "dataloader_num_workers",
        "dataloader_pin_memory",
        "dataloader_persistent_workers",
        "dataloader_prefetch_factor",
        "dataloader_multiprocessing_context",
        "ddp_timeout",
        "dataset_num_proc",
        "activation_checkpointing",
        "activation_checkpointing_kwargs",
        "gradient_checkpointing",
        "gradient_checkpointing_kwargs",
        "activation_offloading",
        "torch_empty_cache_steps",
        "skip_memory_metrics",
    )
)
"""Keys of `train` that decide what is written, or where a tensor lies until it is needed, not what is trained."""
FREE_OF_RUN = frozenset(("description", "sweep", "launch", "result"))
"""Sections of a recipe that no stage is trained by; on how many processes it is, each stage compares itself."""
FREE_OF_STAGE = frozenset(("evals", "explodes_at", "patches", "try_longest"))


@dataclass(frozen=True)
class Fingerprint:
    """What a run is known by."""

    recipe: Mapping[str, Any]
    """Resolved, as plain values."""
    components: Mapping[str, str] = field(default_factory=dict)
    """Hash of the source of every component that the recipe trains with."""
    model: BaseModel | None = None
    """The recipe itself, which knows the default of every key."""


@dataclass(frozen=True)
class Change:
    """A value of a recipe that is another than when the run began."""

    path: tuple[str, ...]
    """`stages` and the name of the stage, then its keys; or keys of the recipe."""
    old: Any
    new: Any
    kind: Kind

    def __str__(self) -> str:
        """Return `path: old -> new`."""
        return f"{'.'.join(self.path)}: {json.dumps(self.old)} -> {json.dumps(self.new)}"

    @property
    def stage(self) -> str | None:
        """The stage that it is in."""
        return self.path[1] if self.path[0] == "stages" else None


def plain(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recipe as JSON would read it."""
    values: dict[str, Any] = json.loads(json.dumps(recipe))
    return values


def changes(old: Mapping[str, Any], new: Fingerprint) -> list[Change]:
    """Return each value that differs between the recipe of a run and another, what may change freely left out.

    A key that one of them lacks has its default there: that of the recipe's own models, or of SFTConfig.
    """
    before, now = _by_stage(filled(old, new.model)), _by_stage(plain(new.recipe))
    found = (Change(path, was, is_now, _kind(path, now)) for path, was, is_now in _differing(before, now, ()))
    return [change for change in found if change.kind is not Kind.FREE and not _default(change)]


def filled(old: Any, model: Any) -> Any:
    """Return values of an older recipe with the keys that it lacks at their defaults, by the models of a newer one."""
    if isinstance(model, BaseModel) and isinstance(old, dict) and old.get("kind") == getattr(model, "kind", None):
        made = {**_defaults(type(model)), **old}
        keys = {name: info.alias or name for name, info in type(model).model_fields.items()}
        return {**made, **{key: filled(old[key], getattr(model, name)) for name, key in keys.items() if key in old}}
    if isinstance(model, tuple) and isinstance(old, list):
        models = {each.name: each for each in model if hasattr(each, "from_")}
        if models:  # stages
            return [filled(item, models.get(item.get("name"))) for item in old]
        return [filled(*pair) for pair in zip(old, model, strict=True)] if len(old) == len(model) else old
    return old


def schedule(stage: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a stage of a plain recipe says of its schedule."""
    left = LENGTH if stage.get("curriculum") else frozenset()
    return {key: value for key, value in (stage.get("train") or {}).items() if key in SCHEDULE - left}


def with_schedule(stage: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a stage of a plain recipe with another schedule."""
    own = {key: value for key, value in (stage.get("train") or {}).items() if key not in schedule(stage)}
    return {**stage, "train": {**own, **values}}


def other_schedule(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Change]:
    """Return what differs between two schedules, a missing key at its default."""
    found = (
        Change(("train", key), old.get(key), new.get(key), Kind.SCHEDULE)
        for key in {**old, **new}
        if not _equal(old.get(key), new.get(key))
    )
    return [change for change in found if not _default(change)]


def kind_of_train(key: str, *, curriculum: bool = False) -> Kind:
    """Return what a change of a key of `train` means."""
    if key in FREE:
        return Kind.FREE
    if key in BATCH:
        return Kind.BATCH
    return Kind.SCHEDULE if key in SCHEDULE and not (curriculum and key in LENGTH) else Kind.ORDER


def _kind(path: tuple[str, ...], recipe: Mapping[str, Any]) -> Kind:
    if path[0] != "stages" or len(path) < 3:
        return Kind.FREE if path[0] in FREE_OF_RUN else Kind.ORDER
    if path[2] in FREE_OF_STAGE:
        return Kind.FREE
    stage = recipe["stages"].get(path[1]) or {}
    if path[2] == "train" and len(path) > 3:
        return kind_of_train(path[3], curriculum=bool(stage.get("curriculum")))
    return Kind.ORDER


def _by_stage(recipe: dict[str, Any]) -> dict[str, Any]:
    """Return a recipe with its stages by name, each with the stage that it starts from spelled out."""
    stages: dict[str, Any] = {}
    before: str | None = None
    for stage in recipe["stages"]:
        stages[stage["name"]] = {**stage, "from": stage.get("from") or before, "train": stage.get("train") or {}}
        before = stage["name"]
    return {**recipe, "stages": stages}


def _differing(old: Any, new: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in {**old, **new}:
            yield from _differing(old.get(key), new.get(key), (*path, str(key)))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, pair in enumerate(zip(old, new, strict=True)):
            yield from _differing(*pair, (*path, str(index)))
    elif not _equal(old, new):
        yield path, old, new


def _equal(old: Any, new: Any) -> bool:
    """Return whether two values are the same, as far as can be told of one that was written masked."""
    return bool(old == new) or (isinstance(old, str) and isinstance(new, str) and same(old, new))


def _defaults(model: type[BaseModel]) -> dict[str, Any]:
    optional = {info.alias or name: info for name, info in model.model_fields.items() if not info.is_required()}
    return {
        key: to_jsonable_python(info.get_default(call_default_factory=True), by_alias=True)
        for key, info in optional.items()
        if not info.exclude
    }


def _default(change: Change) -> bool:
    """Return whether one of two values of `train` is not written, and the other is SFTConfig's default."""
    if "train" not in change.path or None not in (change.old, change.new):
        return False
    known = sft_fields().get(change.path[-1])
    try:
        return known is not None and (change.new if change.old is None else change.old) == ast.literal_eval(
            known.default
        )
    except (ValueError, SyntaxError):  # a default that the library works out
        return False


def unbegun(change: Change, begun: Collection[str], *, tokenizer_of_all: bool) -> bool:
    """Return whether a change is one of a stage that nothing was trained of, so that its old value decided on nothing.

    Args:
        change: One of a recipe.
        begun: The names of the stages that something was trained of.
        tokenizer_of_all: The tokenizer is trained on the documents of every stage.
    """
    documents = tokenizer_of_all and (len(change.path) < 3 or change.path[2] == "data")
    return change.stage is not None and change.stage not in begun and not documents
