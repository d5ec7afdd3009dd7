"""A recipe as a tree of values that know where they were written: reading, `extends`, `--set`, stage overlays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from ctxkit import masking, yaml_core
from ctxkit.errors import Fault, Origin, RecipeError, said

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

Path_: TypeAlias = tuple[str | int, ...]

MAX_LAYERS = 20
"""Recipes that extend one another; beyond it nobody finds where a value comes from."""


@dataclass(frozen=True)
class Node:
    """A value of a recipe with the place it came from."""

    value: Any
    """A scalar, a `dict[str, Node]` or a `list[Node]`."""
    origin: Origin
    key_origin: Origin | None = None
    """Where the key of this value stands, for faults about the key itself."""

    @property
    def place(self) -> Origin:
        """Where a fault of this value is shown: the value, or its key where it begins on a line further down."""
        return self.key_origin if self.key_origin and self.key_origin.line < self.origin.line else self.origin

    def plain(self) -> Any:
        """Return the value without origins."""
        if isinstance(self.value, dict):
            return {key: child.plain() for key, child in self.value.items()}
        if isinstance(self.value, list):
            return [child.plain() for child in self.value]
        return self.value

    def child(self, part: str | int) -> Node | None:
        """Return the value under a key, or the item at an index or, in a list of named mappings, of that name."""
        if isinstance(self.value, dict):
            return self.value.get(str(part))
        if isinstance(self.value, list):
            index = _index(self.value, part)
            return self.value[index] if index is not None else None
        return None

    def nearest(self, path: Path_) -> tuple[Node, Path_]:
        """Return the deepest node along a path, and the part of the path that leads to it."""
        taken: Path_ = ()
        node = self
        for part in path:
            child = node.child(part)
            if child is None:
                # pydantic puts parts into a location that are not in the document, such as the tag of a union.
                continue
            node, taken = child, (*taken, part)
        return node, taken


def read(path: Path, sets: Sequence[str] = ()) -> Node:
    """Read a recipe with all that it extends, then apply `--set key=value` in order; the later wins.

    Raises:
        RecipeError: a file is missing or no YAML mapping, `extends` runs in a circle, or a `--set` leads nowhere.
    """
    tree = _read_extended(path, (), Origin(str(path)), {})
    masking.learn_tree(tree.plain())
    masking.learn_words(sets)
    whole = with_sets(tree, sets)
    masking.spare(_names(whole.plain()))
    return whole


def _names(recipe: Any) -> Iterator[str]:
    """Yield the names by which a recipe, its stages and its models are known, valid or not."""
    model, stages = (recipe.get(key) for key in ("model", "stages"))
    found = [recipe.get("name"), *(stage.get("name") for stage in _mappings(stages))]
    if isinstance(model, dict):
        found += [model.get("name_or_path"), model.get("adapter_name_or_path")]
    yield from (name for name in found if isinstance(name, str) and "://" not in name)


def _mappings(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def with_sets(node: Node, sets: Sequence[str]) -> Node:
    """Return a tree with every `key=value` in its place; the later wins.

    Raises:
        RecipeError: one leads nowhere.
    """
    for assignment in sets:
        node = _assign(node, assignment)
    return node


def merge(base: Node, over: Node) -> Node:
    """Lay one tree over another: mappings merge key by key, anything else replaces.

    A mapping that names another `kind` than the one beneath it replaces it whole, because the options of one component
    mean nothing to another.
    """
    if not (isinstance(base.value, dict) and isinstance(over.value, dict)):
        return over
    kinds = [side.value["kind"].value for side in (base, over) if "kind" in side.value]
    if len(kinds) == 2 and kinds[0] != kinds[1]:
        return over
    merged = dict(base.value)
    for key, child in over.value.items():
        merged[key] = merge(merged[key], child) if key in merged else child
    return Node(merged, over.origin, over.key_origin)


def assigned(root: Node, path: tuple[str, ...], value: Any, origin: Origin) -> Node:
    """Return a tree with a plain value at a path, mappings on the way made where there are none; None takes it away."""
    if value is None:
        return _without(root, path)
    return _assigned(root, path, tree_of(value, origin), ".".join(path), origin)


def _without(node: Node, path: tuple[str, ...]) -> Node:
    """Return a tree that lacks what is at a path; the items of a list stay as many as they are."""
    child = node.child(path[0])
    if child is None:
        return node
    if isinstance(node.value, list):
        items = [_without(item, path[1:]) if item is child else item for item in node.value]
        return Node(items, node.origin, node.key_origin)
    rest = {key: item for key, item in node.value.items() if key != path[0]}
    kept = {path[0]: _without(child, path[1:])} if len(path) > 1 else {}
    return Node({**rest, **kept}, node.origin, node.key_origin)


def tree_of(value: Any, origin: Origin) -> Node:
    """Return plain values as a tree, all of them from one place."""
    if isinstance(value, dict):
        value = {str(key): tree_of(child, origin) for key, child in value.items()}
    elif isinstance(value, list | tuple):
        value = [tree_of(child, origin) for child in value]
    return Node(value, origin, origin)


def _read_extended(path: Path, above: tuple[Path, ...], asked: Origin, known: dict[Path, Node]) -> Node:
    """Return a file laid over what it extends; `asked` is the place that names it, `known` holds what was read."""
    text = _text(path, asked)
    resolved = path.resolve()
    if resolved in above:
        chain = " -> ".join(file.name for file in (*above, resolved))
        raise RecipeError([Fault(("extends",), f"recipes extend each other in a circle: {chain}", origin=asked)])
    if len(above) == MAX_LAYERS:
        raise RecipeError([Fault(("extends",), f"more than {MAX_LAYERS} recipes extend each other", origin=asked)])
    if resolved in known:
        return known[resolved]
    node = _mapping(text, path)
    base: Node | None = None
    for item in _extended(node.value.pop("extends", None)):
        layer = _read_extended(path.parent / item.value, (*above, resolved), item.origin, known)
        base = merge(base, layer) if base else layer
    known[resolved] = merge(base, node) if base else node
    return known[resolved]


def _text(path: Path, asked: Origin) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        said = "there is no such file"
    except UnicodeDecodeError as error:
        said = f"this is no text in UTF-8: byte {error.object[error.start]:#04x} at {error.start}"
    except (OSError, ValueError) as error:
        said = f"the file cannot be read: {getattr(error, 'strerror', None) or error}"
    if asked.line:
        raise RecipeError([Fault(("extends",), f"{path}: {said}", origin=asked)])
    raise RecipeError([Fault((), said, origin=asked)])


def _mapping(text: str, path: Path) -> Node:
    node = _nodes(yaml_core.parse(text, str(path)))
    if node.value is None:
        raise RecipeError(
            [Fault((), "the file is empty", "a recipe has at least `name`, `model` and `data`", node.origin)]
        )
    if not isinstance(node.value, dict):
        raise RecipeError([Fault((), "a recipe is a mapping of keys to values", origin=node.origin)])
    return node


def _nodes(parsed: yaml_core.Parsed, key_origin: Origin | None = None) -> Node:
    value = parsed.value
    if isinstance(value, dict):
        value = {key: _nodes(child, child.key_origin) for key, child in value.items()}
    elif isinstance(value, list):
        value = [_nodes(child) for child in value]
    return Node(value, parsed.origin, key_origin)


def _extended(extends: Node | None) -> list[Node]:
    if extends is None:
        return []
    items = extends.value if isinstance(extends.value, list) else [extends]
    for item in items:
        if not isinstance(item.value, str):
            raise RecipeError([Fault(("extends",), "needs a path or a list of paths", origin=item.origin)])
    return list(items)


def _assign(root: Node, assignment: str) -> Node:
    origin = Origin(f"--set {assignment}")
    key, equals, text = assignment.partition("=")
    parts = tuple(key.split("."))
    if not (equals and all(parts)):
        raise RecipeError([Fault((), "needs the form key=value", "such as train.max_steps=10", origin)])
    if parts == ("extends",):
        raise RecipeError([Fault((), "`extends` is read before any --set", "write it into the recipe", origin)])
    value = _relabelled(_nodes(yaml_core.parse(text, f"--set {key}")), origin)
    return _assigned(root, parts, value, key, origin)


def _assigned(node: Node, parts: tuple[str, ...], value: Node, key: str, origin: Origin) -> Node:
    part, rest = parts[0], parts[1:]
    if isinstance(node.value, list):
        index = _index(node.value, part)
        if index is None:
            raise RecipeError(
                [Fault((), f"there is no item '{part}' in the list that {key} goes through", origin=origin)]
            )
        items = list(node.value)
        items[index] = _assigned(items[index], rest, value, key, origin) if rest else value
        return Node(items, node.origin, node.key_origin)
    if not isinstance(node.value, dict | None):
        raise RecipeError(
            [Fault((), f"there is a plain value where {key} goes through", f"it is {said(node.value)}", origin)]
        )
    children = dict(node.value or {})
    below = children.get(part, Node({}, origin, origin))
    children[part] = _assigned(below, rest, value, key, origin) if rest else Node(value.value, origin, origin)
    return Node(children, node.origin, node.key_origin)


def _relabelled(node: Node, origin: Origin) -> Node:
    value = node.value
    if isinstance(value, dict):
        value = {key: _relabelled(child, origin) for key, child in value.items()}
    elif isinstance(value, list):
        value = [_relabelled(child, origin) for child in value]
    return Node(value, origin, origin)


def _index(items: list[Node], part: str | int) -> int | None:
    """Return the index that a number or the `name` of an item means."""
    if isinstance(part, str) and not part.isdecimal():
        names = [item.value.get("name") if isinstance(item.value, dict) else None for item in items]
        return next((i for i, name in enumerate(names) if name is not None and name.value == part), None)
    return int(part) if int(part) < len(items) else None
