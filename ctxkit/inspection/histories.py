"""The history of a git repository in figures: its chains, each the versions of one file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from ctxkit.inspection.counting import counted
from ctxkit.inspection.documents import LeftOut, LeftOutCounter
from ctxkit.inspection.lengths import WINDOWS, Bucket, Lengths, examples, histogram, summarise
from ctxkit.inspection.targets import options
from ctxkit.spec import Context

if TYPE_CHECKING:
    from ctxkit.inspection.counting import TokenCount
    from ctxkit.inspection.targets import Target
    from ctxkit.registry import Registry

MAX_VERSIONS = 50_000
"""Versions that are read, about half a minute's work; a longer history is judged by its first ones."""


@dataclass(frozen=True)
class History:
    """Chains of versions, as the source of histories gives them unless told otherwise: differences, oldest first."""

    commits: int
    """Those that change a file and that were looked at, the ones left out included."""
    used: int
    """Those with a version in a chain."""
    versions: int
    whole: bool
    """Whether all of it was read, and not only the first versions."""
    chains: tuple[Bucket, ...]
    """How many chains have how many versions."""
    lengths: Lengths | None
    """Of chains, in tokens; None where there is none."""
    examples: dict[int, int]
    """About how many examples of a chunker that joins a chain come of it, by window."""
    left_out: tuple[LeftOut, ...]


class _Commits:
    """Hears what is left out, and keeps the commits, which the ids begin with."""

    def __init__(self) -> None:
        self.left_out = LeftOutCounter()
        self.seen: set[str] = set()

    def __call__(self, id_: str, reason: str) -> None:
        self.left_out(id_, reason)
        self.seen.add(id_.partition(":")[0])


def read_history(target: Target, registry: Registry, count: TokenCount) -> History:
    """Read the history of a repository.

    Raises:
        DataError: it cannot be read.
    """
    commits, used = _Commits(), set[str]()
    versions, tokens = Counter[str](), Counter[str]()
    source = options(target.history or {}, registry).build(Context(skipped=commits))
    documents = iter(source)
    for document, length in counted(islice(documents, MAX_VERSIONS), count):
        versions[document.group] += 1
        tokens[document.group] += length
        used.add(str(document.metadata.get("commit", document.id)))
    whole = next(documents, None) is None
    if isinstance(documents, Generator):
        documents.close()  # now, and not when the interpreter ends: it holds processes and threads
    lengths = list(tokens.values())
    return History(
        len(commits.seen | used),
        len(used),
        versions.total(),
        whole,
        histogram(list(versions.values())),
        summarise(lengths) if lengths else None,
        {window: examples(lengths, window) for window in WINDOWS},
        commits.left_out.listed(),
    )
