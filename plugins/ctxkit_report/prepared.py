"""What is known of prepared data: the ledger of every source, the examples, and a few of them to look at.

A number is None where the files do not give it. Tokens of a source obey two identities:

    read = kept + dropped + unused + set aside for evaluation
    kept + repeated + inserted = trained + masked
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Bin:
    """Documents or examples of `least` to `most` tokens, both inclusive."""

    least: int
    most: int
    count: int
    tokens: int
    """In all of them together."""


@dataclass(frozen=True)
class Source:
    """Where the documents and tokens of one source went."""

    kind: str
    label: str
    """The kind, with its place where several sources are of that kind."""
    documents_read: int | None = None
    documents: int | None = None
    """Tokenised ones."""
    skipped: Mapping[str, int] = field(default_factory=dict)
    """What the source found and left out, by reason."""
    filtered: Mapping[str, int] = field(default_factory=dict)
    """Documents that a filter left out before they were tokenised, by reason."""
    dropped_documents: Mapping[str, int] = field(default_factory=dict)
    """Documents that were left out after they were tokenised, by reason."""
    documents_cut: int | None = None
    special_token_texts: int | None = None
    """Texts that spell a special token, kept as text."""
    chunks: int | None = None
    read: int | None = None
    dropped: Mapping[str, int] = field(default_factory=dict)
    """Tokens by reason."""
    unused: int | None = None
    """Tokens cut off by `max_tokens` or by the mix."""
    evaluation: int | None = None
    """Tokens set aside for evaluation."""
    kept: int | None = None
    repeated: int | None = None
    """Tokens that stand in more than one example, counted from the second time on."""
    inserted: int | None = None
    trained: int | None = None
    masked: int | None = None
    lengths: tuple[Bin, ...] = ()
    """Of the documents before chunking."""


@dataclass(frozen=True)
class Split:
    """The examples for training, or those for evaluation."""

    rows: int | None = None
    chunks: int | None = None
    tokens: int | None = None
    trained: int | None = None
    masked: int | None = None
    longest: int | None = None
    efficiency: float | None = None
    """Tokens as a share of what the rows could hold."""
    lengths: tuple[Bin, ...] = ()
    longer_than: Mapping[float, float] = field(default_factory=dict)
    """Share of the window, from 0 to 1, to the share of rows that are at least as long."""
    difficulty: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Share:
    """A part of the mix: all together, a source, or a class of length; in trained tokens."""

    name: str
    asked_tokens: int | None
    asked_share: float | None
    """Of all trained tokens, from 0 to 1."""
    tokens: int | None
    share: float | None
    why: str
    """Why it is not what was asked, or why there is not more of it."""


@dataclass(frozen=True)
class Segment:
    """A stretch of one example, cut from one document or inserted by the chunker."""

    inserted: bool
    document: str
    start: int | None
    end: int | None
    """In tokens of the document, exclusive."""
    masked: bool
    boundary: bool
    """Whether attention starts anew here."""
    tokens: int | None
    text: str
    omitted: int
    """Tokens between `text` and `tail` that were not written down."""
    tail: str


@dataclass(frozen=True)
class Sample:
    """One example to look at."""

    split: str
    row: int | None
    tokens: int | None
    source: str
    difficulty: str
    segments: tuple[Segment, ...]


@dataclass(frozen=True)
class Prepared:
    """One prepared data set and the stages that train on it."""

    key: str
    stages: tuple[str, ...] = ()
    window: int | None = None
    """Tokens that a row can hold."""
    vocabulary: int | None = None
    """Entries of the tokenizer."""
    chunker: str = ""
    packing: str = ""
    """How chunks share a row, empty where they do not."""
    train: Split | None = None
    evaluation: Split | None = None
    sources: tuple[Source, ...] = ()
    mix: tuple[Share, ...] = ()
    """All together, then each source, then each class of length."""
    samples: tuple[Sample, ...] = ()
