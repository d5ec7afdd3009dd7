"""Find what a rehearsal shrinks: every number of a recipe that is marked as a size, and every component, by path."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from ctxkit.spec import Component, Size

if TYPE_CHECKING:
    from collections.abc import Iterator

Path_: TypeAlias = tuple[str, ...]


@dataclass(frozen=True)
class Sized:
    """A number, or a list of numbers, with what it counts."""

    path: Path_
    value: int | tuple[int, ...]
    size: Size
    least: int
    """The smallest value that works."""

    @property
    def values(self) -> tuple[int, ...]:
        """The numbers; shares between 0 and 1, which some options take instead, are none."""
        found = self.value if isinstance(self.value, tuple) else (self.value,)
        return tuple(value for value in found if type(value) is int)


def sizes(value: object, path: Path_ = ()) -> Iterator[Sized]:
    """Yield every marked number below a model of a recipe."""
    for owner, name, item, where in _fields(value, path):
        size, least = _mark(type(owner), name)
        if size is not None and isinstance(item, int | tuple) and not isinstance(item, bool):
            yield Sized(where, item, size, max(size.least, least))


def components(value: object, path: Path_ = ()) -> Iterator[tuple[Path_, Component]]:
    """Yield every component below a model of a recipe, those inside other components included."""
    if isinstance(value, Component):
        yield path, value
    for name, item in _children(value):
        yield from components(item, (*path, name))


def _fields(value: object, path: Path_) -> Iterator[tuple[BaseModel, str, Any, Path_]]:
    """Yield every field below a value: its owner, name, value and path."""
    if isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield value, name, getattr(value, name), (*path, _key(value, name))
    for name, item in _children(value):
        yield from _fields(item, (*path, name))


def _children(value: object) -> Iterator[tuple[str, Any]]:
    if isinstance(value, BaseModel):
        fields = type(value).model_fields.items()
        yield from ((_key(value, name), getattr(value, name)) for name, field in fields if not field.exclude)
    elif isinstance(value, tuple | list):
        yield from ((str(index), item) for index, item in enumerate(value))


def _key(owner: BaseModel, name: str) -> str:
    return type(owner).model_fields[name].alias or name


def _mark(cls: type[BaseModel], name: str) -> tuple[Size | None, int]:
    """Return what a field counts and its lower bound; a class that declares it anew keeps the mark of its base."""
    least = 0
    for base in cls.__mro__:
        field = getattr(base, "model_fields", {}).get(name)
        marks = list(_flat(field)) if field is not None else []
        least = max([least, *(_bound(mark) for mark in marks)])
        size = next((mark for mark in marks if isinstance(mark, Size)), None)
        if size is not None:
            return size, least
    return None, least


def _flat(mark: Any) -> Iterator[Any]:
    """Yield every mark of a field or annotation, however deep in unions and lists it stands."""
    if isinstance(mark, FieldInfo):
        for part in (*mark.metadata, mark.annotation):
            yield from _flat(part)
        return
    yield mark
    for part in get_args(mark):
        yield from _flat(part)


def _bound(mark: Any) -> int:
    least, above = getattr(mark, "ge", None), getattr(mark, "gt", None)
    if isinstance(least, int):
        return least
    return above + 1 if isinstance(above, int) else 0
