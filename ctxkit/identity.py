"""What makes two runs the same: the resolved recipe, and the source of every component that it uses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from ctxkit.provenance import source_hash
from ctxkit.registry import kind_of
from ctxkit.spec import Component

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ctxkit.recipe import Recipe


def plain(recipe: Recipe) -> dict[str, Any]:
    """Return a resolved recipe as plain values, its stages spelled out."""
    return recipe.model_dump(mode="json", by_alias=True)


def components(recipe: Recipe) -> dict[str, str]:
    """Return the hash of the source of every component that a recipe trains with, by `slot:kind`."""
    found = {}
    stages = tuple(stage.model_copy(update={"evals": ()}) for stage in recipe.stages)
    for options in used(recipe.model_copy(update={"stages": stages})):
        cls = type(options)
        slot, kind = cls.slot, kind_of(cls)
        found[f"{slot}:{kind}"] = source_hash(cls)
    return dict(sorted(found.items()))


def used(value: object) -> Iterator[Component]:
    """Yield every component below a value, those inside other components included."""
    if isinstance(value, Component):
        yield value
    if isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from used(getattr(value, name))
    elif isinstance(value, tuple | list):
        for item in value:
            yield from used(item)
