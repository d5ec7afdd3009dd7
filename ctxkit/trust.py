"""What a recipe cannot bring about alone: code of strangers and uploads need `--trust KEY` on the command line."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from ctxkit.spec import NeedsTrust, SourceOptions

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ctxkit.recipe import ModelSection

VARIABLE = "CTXKIT_TRUST"
"""Holds the keys that `--trust` names, for the processes of a launch; a person may set it too, a recipe cannot."""
KERNEL = "model.attn_implementation"
_UPLOADS = {
    "push_to_hub": "it publishes what is trained, with your login",
    "trackio_space_id": "it publishes the metrics as a space of the hub, with your login",
    "trackio_bucket_id": "it uploads the metrics to a bucket of the hub, with your login",
    "trackio_static_space_id": "it publishes the metrics as a space of the hub, with your login",
}
_IMPORTING = "lower_precision_safe_modules"
"""The key of DeepSpeed's configuration whose values it imports."""


_COMMIT = re.compile(r"[0-9a-f]{40}")
_HUB_NAME = re.compile(r"\w[\w.-]*(?:/[\w.-]+)?")


@dataclass(frozen=True)
class Wish:
    """A value of a recipe that needs trust."""

    path: tuple[str | int, ...]
    why: str

    @property
    def key(self) -> str:
        """What `--trust` calls it: its path without numbers, such as `evals.include_path`."""
        return ".".join(part for part in self.path if isinstance(part, str))

    @property
    def said(self) -> tuple[str, str]:
        """What is wrong, and what to do."""
        hint = f"if you know and trust it, add `--trust {self.key}` to the command line; else take it out"
        return f"needs your trust, which a recipe cannot give: {self.why}", hint


@dataclass(frozen=True)
class Unpinned:
    """A value that names a download, and not which version of it."""

    path: tuple[str | int, ...]
    why: str
    hint: str


def trusted() -> frozenset[str]:
    """Return the keys that the command line trusts."""
    return frozenset(filter(None, os.environ.get(VARIABLE, "").split(",")))


def is_kernel(attention: object) -> bool:
    """Return whether an attention backend is a kernel of the hub, compiled by whoever put it there."""
    return isinstance(attention, str) and "/" in attention


def of_model(model: ModelSection) -> Iterator[Wish]:
    """Yield what the section `model` wants and nobody trusted yet."""
    if is_kernel(model.attn_implementation):
        why = "a kernel of the hub is compiled code that runs in this process"
        yield from _untrusted(Wish(("model", "attn_implementation"), why))


def of_train(train: Mapping[str, Any]) -> Iterator[Wish]:
    """Yield what the section `train` wants and nobody trusted yet."""
    for key, why in _UPLOADS.items():
        if train.get(key):
            yield from _untrusted(Wish(("train", key), why))
    yield from of_deepspeed(train.get("deepspeed"), "train")


def of_deepspeed(stated: object, section: str) -> Iterator[Wish]:
    """Yield what a configuration of DeepSpeed wants, a mapping or a file, and nobody trusted yet."""
    if _names_modules(_deepspeed(stated)):
        yield from _untrusted(Wish((section, "deepspeed"), f"DeepSpeed imports what `{_IMPORTING}` names"))


def of_components(value: object, path: tuple[str | int, ...] = ()) -> Iterator[Wish]:
    """Yield what components below a value want by options that are marked with `NeedsTrust`, and nobody trusted yet."""
    if isinstance(value, BaseModel):
        for name, field in type(value).model_fields.items():
            own = getattr(value, name)
            marks = [mark for mark in field.metadata if isinstance(mark, NeedsTrust)]
            if marks and own:
                yield from _untrusted(Wish((*path, name), marks[0].why))
            yield from of_components(own, (*path, name))
    elif isinstance(value, tuple | list):
        for index, item in enumerate(value):
            yield from of_components(item, (*path, index))


def unpinned_model(model: ModelSection) -> Iterator[Unpinned]:
    """Yield the model and the adapter of the hub that are not named with their commit."""
    if model.name_or_path and _of_hub(model.name_or_path) and not _COMMIT.fullmatch(model.revision or ""):
        yield Unpinned(("model", "name_or_path"), "of the hub, and no commit says which", "add model.revision: COMMIT")
    adapter = model.adapter_name_or_path or ""
    if adapter and _of_hub(adapter) and not _COMMIT.fullmatch(adapter.partition("@")[2]):
        yield Unpinned(
            ("model", "adapter_name_or_path"), "of the hub, and no commit says which", f"write {adapter}@COMMIT"
        )


def unpinned_sources(value: object, path: tuple[str | int, ...] = ()) -> Iterator[Unpinned]:
    """Yield the sources below a value whose data may be other data tomorrow."""
    if isinstance(value, SourceOptions) and not value.pinned():
        yield Unpinned(path, "reads from the network, and no commit says which data", "add `revision: COMMIT`")
    if isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from unpinned_sources(getattr(value, name), (*path, name))
    elif isinstance(value, tuple | list):
        for index, item in enumerate(value):
            yield from unpinned_sources(item, (*path, index))


def shadows_hub(name: str) -> bool:
    """Return whether a name that reads like one of the hub is that of a folder here."""
    return bool(_HUB_NAME.fullmatch(name)) and Path(name).is_dir()


def _of_hub(name: str) -> bool:
    return not Path(name).is_dir()


def _untrusted(wish: Wish) -> Iterator[Wish]:
    if wish.key not in trusted():
        yield wish


def _deepspeed(stated: object) -> object:
    """Return the configuration that a mapping is, or a file holds; nothing where there is none to be read."""
    if not isinstance(stated, str):
        return stated
    try:
        return json.loads(Path(stated).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None  # DeepSpeed will say what it has against it


def _names_modules(value: object) -> bool:
    if isinstance(value, dict):
        return bool(value.get(_IMPORTING)) or any(map(_names_modules, value.values()))
    return isinstance(value, list) and any(map(_names_modules, value))
