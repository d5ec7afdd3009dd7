"""The documents that a source gives, and what it leaves out, in figures."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from ctxkit.inspection.counting import counted
from ctxkit.inspection.lengths import WINDOWS, Lengths, joined_examples, summarise
from ctxkit.inspection.targets import options
from ctxkit.spec import Context

if TYPE_CHECKING:
    from ctxkit.inspection.counting import TokenCount
    from ctxkit.inspection.targets import Target
    from ctxkit.registry import Registry
    from ctxkit.spec import Document

EXAMPLES = 3
"""Names that are shown of what is left out for one reason."""
_CODE = (
    ".c .cc .cpp .cs .cu .cxx .go .h .hh .hpp .java .jl .js .jsx .kt .lua .m .php .pl .py .pyi .pyx .r .rb .rs .scala "
    ".sh .sql .swift .ts .tsx .vue"
)
CODE = frozenset(_CODE.split())
"""Endings of source code."""


@dataclass
class Type:
    """Documents whose names end alike."""

    ending: str
    count: int = 0
    bytes: int = 0
    """Of the texts in UTF-8."""
    tokens: int = 0


@dataclass
class LeftOut:
    """What a source leaves out for one reason."""

    reason: str
    count: int
    examples: list[str]


@dataclass(frozen=True)
class Documents:
    """All documents of a source."""

    count: int
    characters: int
    lines: int
    groups: int
    """Folders, of files; 1 of a repository."""
    largest_group: int
    """Tokens of all documents of a group, the largest."""
    examples: dict[int, int]
    """About how many examples of a chunker that joins a group come of it, by window."""
    types: tuple[Type, ...]
    """The most tokens first."""
    left_out: tuple[LeftOut, ...]
    """The commonest reason first."""
    lengths: Lengths | None
    """In tokens, of whole documents; None where there is none."""

    @property
    def code(self) -> float:
        """The part of the tokens that is source code, by the endings of the names; 0 to 1."""
        total = sum(item.tokens for item in self.types)
        return sum(item.tokens for item in self.types if item.ending in CODE) / total if total else 0.0


class LeftOutCounter:
    """Hears from a source what it leaves out."""

    def __init__(self) -> None:
        """Start with nothing."""
        self._found: dict[str, LeftOut] = {}

    def __call__(self, id_: str, reason: str) -> None:
        """Count one thing."""
        item = self._found.setdefault(reason, LeftOut(reason, 0, []))
        item.count += 1
        if len(item.examples) < EXAMPLES:
            item.examples.append(id_)

    def listed(self) -> tuple[LeftOut, ...]:
        """Return the reasons, the commonest first."""
        return tuple(sorted(self._found.values(), key=lambda item: (-item.count, item.reason)))


def read_documents(target: Target, registry: Registry, count: TokenCount) -> Documents:
    """Read all documents of a target once, holding few of them at a time.

    Raises:
        DataError: they cannot be read.
    """
    left_out, types, groups = LeftOutCounter(), dict[str, Type](), dict[str, list[int]]()
    sums = Counter[str]()
    source = options(target.source, registry).build(Context(skipped=left_out))
    for document, tokens in counted(source, count):
        ending = "rows" if target.kind == "hub" else ending_of(document)
        item = types.setdefault(ending, Type(ending))
        item.count += 1
        item.bytes += len(document.text.encode())
        item.tokens += tokens
        groups.setdefault(document.group, []).append(tokens)
        sums.update(characters=len(document.text), lines=document.text.count("\n") + 1)
    lengths = [length for group in groups.values() for length in group]
    ordered = tuple(sorted(types.values(), key=lambda item: (-item.tokens, item.ending)))
    return Documents(
        len(lengths),
        sums["characters"],
        sums["lines"],
        len(groups),
        max(map(sum, groups.values()), default=0),
        {window: sum(joined_examples(group, window) for group in groups.values()) for window in WINDOWS},
        ordered,
        left_out.listed(),
        summarise(lengths) if lengths else None,
    )


def ending_of(document: Document) -> str:
    """Return what the name of a document ends with, in small letters."""
    return PurePosixPath(document.id).suffix.lower() or "no ending"
