"""What makes two runs the same: the resolved recipe, and the source of every component that it uses."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from ctxkit.fingerprint import Fingerprint
from ctxkit.masking import masked
from ctxkit.provenance import source_hash
from ctxkit.registry import kind_of
from ctxkit.spec import Component

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ctxkit.recipe import Recipe


ADAPTER_BESIDE = "ctxkit_adapter.json"
"""Lies in the folder of an adapter that belongs around weights with other adapters merged into them."""
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin", "config.json", ADAPTER_BESIDE)
"""Of the folder of a trained adapter: its shape, its weights, the RoPE they were trained with, and beside what."""
ADAPTER = "model.adapter_name_or_path"
"""The name under which the content of the adapter that a recipe starts with is compared."""


def plain(recipe: Recipe) -> dict[str, Any]:
    """Return a resolved recipe as plain values, its stages spelled out and secrets masked."""
    plain: dict[str, Any] = masked(recipe.model_dump(mode="json", by_alias=True))
    return plain


def fingerprint(recipe: Recipe, used: Mapping[str, str] | None = None) -> Fingerprint:
    """Return what a run of a recipe is known by; `used` where its components are hashed already."""
    return Fingerprint(plain(recipe), components(recipe) if used is None else used, recipe)


def components(recipe: Recipe) -> dict[str, str]:
    """Return the hash of the source of every component that a recipe trains with, by `slot:kind`.

    With that of the content of the adapter that it starts with, where that is a folder.
    """
    found = {}
    stages = tuple(stage.model_copy(update={"evals": (), "patches": ()}) for stage in recipe.stages)
    for options in used(recipe.model_copy(update={"stages": stages})):
        cls = type(options)
        slot, kind = cls.slot, kind_of(cls)
        found[f"{slot}:{kind}"] = source_hash(cls)
    if recipe.model.adapter_name_or_path and Path(recipe.model.adapter_name_or_path).is_dir():
        found[ADAPTER] = adapter_hash(Path(recipe.model.adapter_name_or_path))
    return dict(sorted(found.items()))


def adapter_hash(folder: Path) -> str:
    """Return the hash of the files of a trained adapter."""
    digest = hashlib.sha256()
    for name in ADAPTER_FILES:
        if (folder / name).is_file():
            with (folder / name).open("rb") as file:
                digest.update(f"{name}:{hashlib.file_digest(file, 'sha256').hexdigest()}".encode())
    return digest.hexdigest()[:16]


def used(value: object) -> Iterator[Component]:
    """Yield every component below a value, those inside other components included."""
    if isinstance(value, Component):
        yield value
    if isinstance(value, BaseModel):
        for name, field in type(value).model_fields.items():
            if not field.exclude:  # what the resolved recipe leaves out is no part of what a run is
                yield from used(getattr(value, name))
    elif isinstance(value, tuple | list):
        for item in value:
            yield from used(item)
