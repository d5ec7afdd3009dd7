"""The ways to write repositories and histories: with tokens that a model knows, or with tokens added to it.

A template is a tuple of parts; a part that is a special token becomes that token, any other part is text, in which
`{name}` and its like are filled in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Container

Template: TypeAlias = tuple[str, ...]
FileFormat: TypeAlias = Literal["auto", "tags", "starcoder2", "qwen"]
CommitFormat: TypeAlias = Literal["auto", "tags", "starcoder", "starcoder2", "qwen"]


@dataclass(frozen=True)
class Layout:
    """What is written before, between and after the parts of an example."""

    tokens: tuple[str, ...]
    """The special tokens among the parts of the templates."""
    opening: Template
    """Before everything; holds `{name}`, of the repository or file."""
    header: Template
    """Before each part."""
    footer: Template = ()
    """After each part that is whole."""
    first_header: Template | None = None
    """Instead of `header` before the first part of an example, where it differs."""


STARCODER2 = ("<repo_name>", "<file_sep>")
QWEN = ("<|repo_name|>", "<|file_sep|>")
STARCODER = ("<commit_before>", "<commit_msg>", "<commit_after>")


def file_layout(chosen: FileFormat, vocabulary: Container[str], start: str, end: str) -> Layout:
    """Return how files are written; `auto` takes the tokens that a vocabulary has, else `start` and `end`.

    The formats are those of StarCoder2 (Lozhkov et al. 2024) and Qwen2.5-Coder (Hui et al. 2024).
    """
    used = known(vocabulary, {"starcoder2": STARCODER2, "qwen": QWEN}) if chosen == "auto" else chosen
    if used == "starcoder2":
        return Layout(STARCODER2, ("<repo_name>", "{name}"), ("<file_sep>", "{path}\n"))
    if used == "qwen":
        return Layout(QWEN, ("<|repo_name|>", "{name}\n"), ("<|file_sep|>", "{path}\n"))
    return Layout((start, end), (), (start, " {path}\n"), (end, "\n"))


def commit_layout(chosen: CommitFormat, vocabulary: Container[str], start: str, end: str) -> Layout:
    """Return how commits are written; `auto` takes the tokens that a vocabulary has, else `start` and `end`.

    StarCoder (Li et al. 2023) has tokens for one commit: before, message, after. A chain repeats the last two.
    """
    formats = {"starcoder": STARCODER, "starcoder2": STARCODER2, "qwen": QWEN}
    used = known(vocabulary, formats) if chosen == "auto" else chosen
    if used == "starcoder":
        message = ("<commit_msg>", "{subject}", "<commit_after>")
        return Layout(STARCODER, (), message, first_header=("<commit_before>",))
    if used == "starcoder2":
        return Layout(STARCODER2, ("<repo_name>", "{name}"), ("<file_sep>", "{sha} {subject}\n"))
    if used == "qwen":
        return Layout(QWEN, ("<|repo_name|>", "{name}\n"), ("<|file_sep|>", "{sha} {subject}\n"))
    return Layout((start, end), (), (start, " {sha} {subject}\n"), (end, "\n"))


def known(vocabulary: Container[str], formats: dict[str, tuple[str, ...]]) -> str:
    """Return the first format all of whose tokens are in the vocabulary, else `tags`."""
    return next((name for name, tokens in formats.items() if all(token in vocabulary for token in tokens)), "tags")
