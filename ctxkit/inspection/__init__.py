"""What is in a folder, a file or a git repository, and which `data` section of a recipe fits it.

Reads through the registered sources, and imports nothing of the training stack.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ctxkit.errors import DataError
from ctxkit.inspection.advice import Advice, advise, data_section
from ctxkit.inspection.counting import Estimate, TokenCount
from ctxkit.inspection.documents import Documents, read_documents
from ctxkit.inspection.histories import History, read_history
from ctxkit.inspection.notes import notes
from ctxkit.inspection.rendering import render
from ctxkit.inspection.targets import Target, find
from ctxkit.yaml_core import dump

if TYPE_CHECKING:
    from collections.abc import Callable

    from ctxkit.registry import Registry

__all__ = ["Inspection", "TokenCount", "inspect", "render"]


@dataclass(frozen=True)
class Inspection:
    """All that was found; plain values, so that `dataclasses.asdict` gives the JSON."""

    target: Target
    tokens: str
    """How tokens were counted: `estimate: characters / 4`, or `counted by` and the tokenizer."""
    documents: Documents
    history: History | None
    """Of a git repository alone."""
    notes: tuple[str, ...]
    """What is to be known before training on it, a sentence or two each."""
    chunkers: tuple[Advice, ...]
    """The best one first."""
    data: str
    """A `data` section as YAML, valid as it is."""


def inspect(
    path: str, registry: Registry, count: TokenCount | None = None, say: Callable[[str], None] = lambda _: None
) -> Inspection:
    """Look at a folder, a file or a git repository (its folder or URL).

    Args:
        path: Where it is.
        registry: Holds the sources that read it.
        count: Counts tokens; characters / 4 unless given.
        say: Told what takes time.

    Raises:
        DataError: it is not there, cannot be read, or holds no text.
        CtxkitError: no installed plugin brings the source that would read it.
    """
    count = count or Estimate()
    target = find(path, registry)
    say(f"reading {target.shown} ...")
    documents = read_documents(target, registry, count)
    if not documents.count:
        reasons = ", ".join(f"{item.count} {item.reason}" for item in documents.left_out)
        raise DataError(f"{target.shown} holds no text", f"left out: {reasons}" if reasons else "")
    history = None
    if target.history:
        say("reading its history ...")
        try:
            history = read_history(target, registry, count)
        except DataError as error:
            say(f"no use can be made of its history: {error.message}")
    chunkers = advise(target, documents, history)
    section = data_section(target, documents, chunkers, registry)
    said = tuple(notes(target, documents))
    return Inspection(target, count.name, documents, history, said, chunkers, dump({"data": section}))
