"""YAML as recipes use it: safe, YAML 1.2 core scalars, every key and value with its place, nothing twice.

PyYAML alone reads `1e-5` as a string, `no` as a boolean and `12:30` as a number, lets a key appear twice, and expands a
400-byte document into 10^9 values; a recipe must do none of this.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import yaml

from ctxkit.errors import Fault, Origin, RecipeError

MAX_BYTES = 1_000_000
MAX_NODES = 10_000
MAX_DEPTH = 50
MAX_BITS = 64
"""In a whole number; no setting needs more, and Python takes seconds to read a million digits."""

_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), float("inf")),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), float("-inf")),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
}


@dataclass(frozen=True)
class Parsed:
    """A value with the place of itself and of its key."""

    value: Any
    origin: Origin
    key_origin: Origin | None = None


class _Loader(yaml.SafeLoader):
    """A safe loader that decides nothing about plain scalars, knows no tag, and stops at the limits as it reads."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's own name

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._count = self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Compose a node unless it carries a tag or exceeds a limit; PyYAML would read on for seconds."""
        event = self.peek_event()  # type: ignore[no-untyped-call]
        self._count += 1
        self._depth += 1
        if getattr(event, "tag", None) is not None:
            raise yaml.composer.ComposerError(None, None, "a tag is not allowed; write a plain value", event.start_mark)
        if self._count > MAX_NODES or self._depth > MAX_DEPTH:
            said = f"more than {MAX_NODES} values" if self._count > MAX_NODES else f"more than {MAX_DEPTH} levels deep"
            raise yaml.composer.ComposerError(None, None, said, event.start_mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


def parse(text: str, name: str) -> Parsed:
    """Return the one document of a text.

    Raises:
        RecipeError: it is no YAML, repeats a key, or exceeds the limits on size, depth or aliases.
    """
    if len(text.encode()) > MAX_BYTES:
        raise RecipeError([Fault((), f"the file has more than {MAX_BYTES} bytes", origin=Origin(name))])
    reader = _Reader(name, text)
    try:
        node = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        origin = reader.at(mark, mark) if mark else Origin(name)
        said = " ".join(part for part in (error.context, error.problem) if part)
        raise RecipeError([Fault((), f"this cannot be read as YAML: {said}", origin=origin)]) from None
    except yaml.reader.ReaderError as error:
        said = f"the character #x{error.character:04x} is not allowed"
        place = text[: error.position].count("\n"), error.position - text.rfind("\n", 0, error.position) - 1
        raise RecipeError([Fault((), said, origin=reader.place(*place, 1))]) from None
    if node is None:
        return Parsed(None, Origin(name))
    parsed = reader.read(node, 0)
    if reader.faults:
        raise RecipeError(reader.faults)
    return parsed


def dump(value: Any) -> str:
    """Return plain values as YAML that `parse` reads back unchanged."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


class _Dumper(yaml.SafeDumper):
    """Quote every text that YAML 1.2 would read as something else, such as the commit `12345e67`."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _text(dumper: _Dumper, text: str) -> yaml.Node:
    style = None if isinstance(_scalar(text), str) else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


class _Reader:
    """Turn composed nodes into values, counting as aliases expand."""

    def __init__(self, name: str, text: str) -> None:
        self._name = name
        self._lines = text.splitlines()
        self._count = 0
        self.faults: list[Fault] = []

    def at(self, start: yaml.Mark, end: yaml.Mark) -> Origin:
        """Return the place from a start mark, as long as it goes on one line."""
        rest = len(self._lines[start.line]) - start.column if start.line < len(self._lines) else 1
        return self.place(start.line, start.column, end.column - start.column if end.line == start.line else rest)

    def place(self, line: int, column: int, length: int) -> Origin:
        """Return a place by line and column, both from 0."""
        text = self._lines[line] if line < len(self._lines) else ""
        return Origin(self._name, line + 1, column + 1, max(length, 1), text)

    def read(self, node: yaml.Node, depth: int) -> Parsed:
        """Return the value of a node."""
        origin = self.at(node.start_mark, node.end_mark)
        self._count += 1
        if self._count > MAX_NODES or depth > MAX_DEPTH:
            said = f"{MAX_NODES} values" if self._count > MAX_NODES else f"{MAX_DEPTH} levels"
            message = f"the document is too large: more than {said} once its aliases are expanded"
            raise RecipeError([Fault((), message, origin=origin)])
        if isinstance(node, yaml.MappingNode):
            return Parsed(self._mapping(node, depth), origin)
        if isinstance(node, yaml.SequenceNode):
            return Parsed([self.read(item, depth + 1) for item in node.value], origin)
        if getattr(node, "style", None) is not None:  # quoted, or a block of text
            return Parsed(node.value, origin)
        if _INT.fullmatch(node.value) and _too_long(node.value):
            self.faults.append(Fault((), f"a whole number has at most {MAX_BITS} bits", origin=origin))
            return Parsed(None, origin)
        return Parsed(_scalar(node.value), origin)

    def _mapping(self, node: yaml.MappingNode, depth: int) -> dict[str, Parsed]:
        values: dict[str, Parsed] = {}
        for key_node, value_node in node.value:
            key_origin = self.at(key_node.start_mark, key_node.end_mark)
            if not isinstance(key_node, yaml.ScalarNode):
                self.faults.append(Fault((), "a key must be a plain word", origin=key_origin))
                continue
            key = key_node.value
            if key in values:
                first = values[key].key_origin
                self.faults.append(Fault((), f"the key `{key}` is written twice", f"first in {first}", key_origin))
                continue
            if key == "<<":
                self.faults.append(Fault((), "merge keys (`<<`) are not part of YAML 1.2", "use `extends`", key_origin))
                continue
            value = self.read(value_node, depth + 1)
            values[key] = Parsed(value.value, value.origin, key_origin)
        return values


def _too_long(text: str) -> bool:
    """Tell whether the text of a whole number exceeds `MAX_BITS`, without converting a long one."""
    return len(text) > MAX_BITS or abs(int(text, 0 if text[:2] in ("0o", "0x") else 10)) >= 1 << MAX_BITS


def _scalar(text: str) -> str | int | float | bool | None:
    """Return the value of a plain scalar by the YAML 1.2 core schema."""
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    return text
