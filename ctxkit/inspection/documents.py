"""The documents that a source gives, and what it leaves out, in figures."""

from __future__ import annotations

import heapq
from collections import Counter
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

from ctxkit.inspection.counting import counted
from ctxkit.inspection.lengths import MOST_OUTLIERS, WINDOWS, Lengths, joined_examples, outliers, summarise
from ctxkit.inspection.secret_names import looks_secret
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


class Long(NamedTuple):
    """One of the longest documents."""

    tokens: int
    id: str
    group: str


@dataclass(frozen=True)
class Documents:
    """All documents of a source."""

    count: int
    characters: int
    lines: int
    groups: int
    """Folders, of files; 1 of a repository."""
    largest_group: int
    """Tokens of all documents of a group, the largest; outliers not counted."""
    examples: dict[int, int]
    """About how many examples of a chunker that joins a group come of it, by window."""
    types: tuple[Type, ...]
    """The most tokens first."""
    left_out: tuple[LeftOut, ...]
    """The commonest reason first."""
    lengths: Lengths | None
    """In tokens, of whole documents; None where there is none."""
    outliers: tuple[Long, ...] = ()
    """The few documents that hold most of the tokens, the longest first, where there are such."""
    others: Lengths | None = None
    """As `lengths`, of all but the outliers; None where there is no outlier."""
    secrets: LeftOut | None = None
    """Documents whose names are those of files with keys or passwords; they are read, and not left out."""

    @property
    def usual(self) -> Lengths | None:
        """The lengths that a window is chosen by: of all documents, less the outliers."""
        return self.others or self.lengths

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
    found = _Found(by_name=target.kind != "hub")
    source = options(target.source, registry).build(Context(skipped=found.left_out))
    for document, tokens in counted(source, count):
        found.add(document, tokens)
    return found.summary()


@dataclass
class _Found:
    """What is kept of the documents that were read."""

    by_name: bool
    """Whether documents are files, so that their names say what they are."""
    left_out: LeftOutCounter = field(default_factory=LeftOutCounter)
    types: dict[str, Type] = field(default_factory=dict)
    groups: dict[str, list[int]] = field(default_factory=dict)
    """Tokens of the documents of each."""
    sums: Counter[str] = field(default_factory=Counter)
    longest: list[Long] = field(default_factory=list)
    """A heap of those that may be outliers."""
    secrets: LeftOutCounter = field(default_factory=LeftOutCounter)

    def add(self, document: Document, tokens: int) -> None:
        """Count one document."""
        ending = ending_of(document) if self.by_name else "rows"
        item = self.types.setdefault(ending, Type(ending))
        item.count += 1
        item.bytes += len(document.text.encode())
        item.tokens += tokens
        self.groups.setdefault(document.group, []).append(tokens)
        self.sums.update(characters=len(document.text), lines=document.text.count("\n") + 1)
        heapq.heappush(self.longest, Long(tokens, document.id, document.group))
        if len(self.longest) > MOST_OUTLIERS:
            heapq.heappop(self.longest)
        if self.by_name and looks_secret(document.id):
            self.secrets(document.id, "looks like a secret")

    def summary(self) -> Documents:
        """Return the figures."""
        lengths = [length for group in self.groups.values() for length in group]
        apart = tuple(sorted(self.longest, reverse=True)[: outliers(lengths)])
        sizes = {name: sum(group) for name, group in self.groups.items()}
        for long in apart:
            sizes[long.group] -= long.tokens
        return Documents(
            count=len(lengths),
            characters=self.sums["characters"],
            lines=self.sums["lines"],
            groups=len(self.groups),
            largest_group=max(sizes.values(), default=0),
            examples={
                window: sum(joined_examples(group, window) for group in self.groups.values()) for window in WINDOWS
            },
            types=tuple(sorted(self.types.values(), key=lambda item: (-item.tokens, item.ending))),
            left_out=self.left_out.listed(),
            lengths=summarise(lengths) if lengths else None,
            outliers=apart,
            others=summarise(sorted(lengths)[: -len(apart)]) if apart else None,
            secrets=next(iter(self.secrets.listed()), None),
        )


def ending_of(document: Document) -> str:
    """Return what the name of a document ends with, in small letters."""
    return PurePosixPath(document.id).suffix.lower() or "no ending"
