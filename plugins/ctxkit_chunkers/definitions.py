"""Where code may be cut: between functions and classes, found by tree-sitter."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ctxkit.errors import CtxkitError, ExitCode
from ctxkit_chunkers.boundaries import DEFINITION, INNER_DEFINITION

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from tree_sitter import Node, Tree

SCRIPT = "function_declaration generator_function_declaration class_declaration method_definition"
TYPED = f"{SCRIPT} abstract_class_declaration interface_declaration enum_declaration"
GRAMMARS = {
    "python": ("tree_sitter_python", "language"),
    "javascript": ("tree_sitter_javascript", "language"),
    "typescript": ("tree_sitter_typescript", "language_typescript"),
    "tsx": ("tree_sitter_typescript", "language_tsx"),
    "java": ("tree_sitter_java", "language"),
    "go": ("tree_sitter_go", "language"),
    "rust": ("tree_sitter_rust", "language"),
    "c": ("tree_sitter_c", "language"),
    "cpp": ("tree_sitter_cpp", "language"),
}
"""The package of each grammar, and the function that returns it."""
NODES = {
    "python": "function_definition class_definition",
    "javascript": SCRIPT,
    "typescript": TYPED,
    "tsx": TYPED,
    "java": "class_declaration interface_declaration enum_declaration record_declaration method_declaration "
    "constructor_declaration",
    "go": "function_declaration method_declaration type_declaration",
    "rust": "function_item struct_item enum_item trait_item impl_item",
    "c": "function_definition",
    "cpp": "function_definition class_specifier",
}
"""The nodes that are definitions."""
SPACES = b" \t\r\n\f"
WRAPPERS = frozenset({"decorated_definition", "export_statement", "template_declaration"})
"""Nodes that belong to the definition inside them."""


def installed(language: str) -> bool:
    """Tell whether tree-sitter and the grammar of a language can be imported."""
    try:
        importlib.import_module("tree_sitter")
        importlib.import_module(GRAMMARS[language][0])
    except ImportError:
        return False
    return True


def require() -> None:
    """Make sure that code can be parsed at all.

    Raises:
        CtxkitError: tree-sitter or its grammar of Python is not installed.
    """
    if not installed("python"):
        raise CtxkitError(
            "code boundaries need tree-sitter and its grammars, which are not installed",
            "install ctxkit with its extra `code`, or set `code: auto` or `code: false`",
            exit_code=ExitCode.RECIPE,
        )


@dataclass
class Definitions:
    """Finds the boundaries of definitions; a grammar is loaded when the first document needs it."""

    _grammars: dict[str, Grammar | None] = field(default_factory=dict)

    def strengthen(self, strengths: NDArray[np.uint8], ends: NDArray[np.int64], data: bytes, language: str) -> None:
        """Raise the boundaries around definitions, in place.

        Args:
            strengths: How strong the boundary after each token is, shape (tokens,).
            ends: After how many bytes each token ends, shape (tokens,).
            data: The text as UTF-8.
            language: One of `GRAMMARS`; where its grammar is not installed, nothing changes.
        """
        if language not in self._grammars:
            self._grammars[language] = Grammar(language) if installed(language) else None
        grammar = self._grammars[language]
        for place, level in grammar.borders(data) if grammar else ():
            token = _token_at(ends, data, place)
            if token is not None:
                strengths[token] = max(int(strengths[token]), level)


class Grammar:
    """Parses one language."""

    def __init__(self, language: str) -> None:
        """Load the grammar."""
        import tree_sitter

        package, function = GRAMMARS[language]
        grammar = tree_sitter.Language(getattr(importlib.import_module(package), function)())
        nodes = " ".join(f"({node})" for node in NODES[language].split())
        self._parser = tree_sitter.Parser(grammar)
        self._query = tree_sitter.Query(grammar, f"[{nodes}] @definition")

    def borders(self, data: bytes) -> Iterator[tuple[int, int]]:
        """Yield the bytes where each definition begins, with comments above it, and where it ends; and its level."""
        outer_end = 0
        for start, end in sorted(self._ranges(self._parser.parse(data)), key=lambda pair: (pair[0], -pair[1])):
            level = INNER_DEFINITION if start < outer_end else DEFINITION
            outer_end = max(outer_end, end)
            yield start, level
            yield end, level

    def _ranges(self, tree: Tree) -> Iterator[tuple[int, int]]:
        import tree_sitter

        for node in tree_sitter.QueryCursor(self._query).captures(tree.root_node).get("definition", []):
            around = node.parent
            whole = around if around is not None and around.type in WRAPPERS else node
            yield _first_comment(whole).start_byte, whole.end_byte


def _first_comment(node: Node) -> Node:
    """Return the first of the comments right above a node, or the node itself."""
    above = node.prev_sibling
    while above is not None and "comment" in above.type and above.end_point.row + 1 >= node.start_point.row:
        before = above.prev_sibling
        if before is not None and before.end_point.row == above.start_point.row:
            break  # it stands behind other code, of which it speaks
        node, above = above, before
    return node


def _token_at(ends: NDArray[np.int64], data: bytes, place: int) -> int | None:
    """Return the token after which to cut for a border at a byte, or None where no token ends near it.

    Any place in the whitespace around the border will do; the best is where its last line begins.
    """
    before = after = place
    while before > 0 and data[before - 1] in SPACES:
        before -= 1
    while after < len(data) and data[after] in SPACES:
        after += 1
    line = data.rfind(b"\n", before, after) + 1 or after
    token = int(np.searchsorted(ends, line, side="right")) - 1
    if token >= 0 and ends[token] >= before:
        return token
    following = token + 1
    return following if following < len(ends) and ends[following] <= after else None
