"""Where every token went: the account of each source, and what the rows of a split look like."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctxkit.spec import BY_RULE, DIFFICULTIES

SHARES = (0.25, 0.5, 1.0)
"""Parts of the window that a row may fill."""


@dataclass
class SourceLedger:
    """The account of one source.

    Read = kept + dropped + unused + set aside for evaluation; kept + repeated + inserted = trained + masked.
    What was skipped or filtered was never tokenised, so it is counted in documents.
    """

    kind: str
    documents_read: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    """Documents that the source itself left out, by reason."""
    filtered_documents: dict[str, int] = field(default_factory=dict)
    """Documents that a filter dropped by their text, by reason."""
    documents: int = 0
    """Those tokenised."""
    tokens_read: int = 0
    """Tokens of those, begin and end tokens included."""
    dropped_documents: dict[str, int] = field(default_factory=dict)
    """Documents that a filter dropped by their tokens, by reason."""
    dropped: dict[str, int] = field(default_factory=dict)
    """Tokens that filters and chunker left out, by reason."""
    documents_cut: int = 0
    """Documents that lie in more than one training example."""
    chunks: int = 0
    tokens_kept: int = 0
    """Tokens of documents in the examples, each counted once."""
    tokens_repeated: int = 0
    """Tokens of documents that stand in an example though one before has them, as overlap does."""
    tokens_inserted: int = 0
    """Tokens that the chunker added: separators, paths, questions."""
    tokens_trained: int = 0
    tokens_masked: int = 0
    """Tokens that only give context."""
    tokens_unused: int = 0
    """Cut off by `max_tokens` or by the mix."""
    tokens_eval: int = 0
    """Set aside for evaluation."""
    special_token_texts: int = 0
    """Documents that spell a special token; it stays text."""
    document_lengths: list[dict[str, int]] = field(default_factory=list)
    """Documents and tokens by length, in powers of two."""

    @property
    def lost_tokens(self) -> int:
        """Tokens that were dropped, but for those that are left out by rule and no loss."""
        return sum(count for reason, count in self.dropped.items() if not reason.startswith(BY_RULE))

    @property
    def lost_documents(self) -> int:
        """Documents that were never tokenised, but for those that are left out by rule and no loss."""
        skipped = sum(count for reason, count in self.skipped.items() if not reason.startswith(BY_RULE))
        return skipped + sum(self.filtered_documents.values())


def names(ledgers: Sequence[SourceLedger]) -> list[str]:
    """Return what each source is called: its kind, with its number where several are of that kind."""
    kinds = [ledger.kind for ledger in ledgers]
    return [f"{kind} ({place})" if kinds.count(kind) > 1 else kind for place, kind in enumerate(kinds, start=1)]


@dataclass(frozen=True)
class SplitSummary:
    """The rows of one split."""

    rows: int
    chunks: int
    tokens: int
    tokens_trained: int
    tokens_masked: int
    longest: int
    efficiency: float
    """Tokens divided by rows times window: what is left is padding, where rows are padded to the window."""
    lengths: list[dict[str, int]]
    longer_than: dict[str, float]
    """The share of rows that fill at least that part of the window."""
    difficulty: dict[str, int]


def histogram(lengths: Sequence[int] | NDArray[Any]) -> list[dict[str, int]]:
    """Return how many lengths, and tokens, lie between powers of two; empty classes between others included."""
    values = np.asarray(lengths, dtype=np.int64)
    values = values[values > 0]
    if not len(values):
        return []
    classes = np.frexp(values.astype(np.float64))[1] - 1
    first, last = int(classes.min()), int(classes.max())
    count = np.bincount(classes - first)
    tokens = np.bincount(classes - first, weights=values)
    return [
        {"least": 1 << power, "most": (2 << power) - 1, "count": int(count[i]), "tokens": int(tokens[i])}
        for i, power in enumerate(range(first, last + 1))
    ]


def summary(lengths: Sequence[int], masked: int, chunks: int, window: int, difficulty: Sequence[str]) -> SplitSummary:
    """Return what the rows of a split look like; lengths and window in tokens."""
    values = np.asarray(lengths, dtype=np.int64)
    total, rows = int(values.sum()), len(values)
    counts = Counter(difficulty)
    return SplitSummary(
        rows=rows,
        chunks=chunks,
        tokens=total,
        tokens_trained=total - masked,
        tokens_masked=masked,
        longest=int(values.max()) if rows else 0,
        efficiency=total / (rows * window) if rows else 0.0,
        lengths=histogram(values),
        longer_than={str(share): float((values >= share * window).mean()) if rows else 0.0 for share in SHARES},
        difficulty={name: counts[name] for name in DIFFICULTIES},
    )


def difficulty(length: int, window: int, documents: int, reach: int) -> str:
    """Return how hard an example is to learn from: a point for each step in length, documents and reach.

    Length: over a quarter, over a half of the window. Documents: two or more, five or more. Reach of the farthest
    dependency: over a sixteenth, over a quarter of the window. No or one point is easy, two or three medium, four
    hard, five or six very hard.
    """
    points = (length > window / 4) + (length > window / 2)
    points += (documents >= 2) + (documents >= 5)
    points += (reach > window / 16) + (reach > window / 4)
    return DIFFICULTIES[(0, 0, 1, 1, 2, 3, 3)[points]]
