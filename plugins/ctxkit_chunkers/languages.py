"""In which language a document is written, told from the ending of its path."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ctxkit.spec import Document

ENDINGS = {
    "python": ".py .pyi",
    "javascript": ".js .jsx .mjs .cjs",
    "typescript": ".ts .mts .cts",
    "tsx": ".tsx",
    "java": ".java",
    "go": ".go",
    "rust": ".rs",
    "c": ".c .h",
    "cpp": ".cc .cpp .cxx .hh .hpp .hxx .cu .cuh",
}
"""The languages whose imports and definitions are understood."""
OF_ENDING = {ending: language for language, endings in ENDINGS.items() for ending in endings.split()}

HASH_COMMENTS = ".sh .bash .zsh .yaml .yml .toml .ini .cfg .conf .rb .pl .r .jl .tcl .nim .cmake .ps1"
"""Endings of other files in which a line that begins with `#` is a comment and no heading."""


def path_of(document: Document) -> str:
    """Return the path of a document: what its source says, else its id."""
    return str(document.metadata.get("path") or document.id)


def language_of(path: str) -> str:
    """Return the language of a path, or nothing where its ending is not among `ENDINGS`."""
    return OF_ENDING.get(PurePosixPath(path).suffix.lower(), "")


def has_headings(path: str) -> bool:
    """Tell whether a line that begins with `#` may be a heading, as in Markdown or a text of unknown kind."""
    ending = PurePosixPath(path).suffix.lower()
    return not ending or (ending not in OF_ENDING and ending not in HASH_COMMENTS.split())
