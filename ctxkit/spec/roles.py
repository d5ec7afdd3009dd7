"""What the core expects of the objects that components build, and what it hands them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar

from ctxkit.spec.cells import Cells, Work, in_order
from ctxkit.spec.data import Chunk, Document, EncodedDocument
from ctxkit.spec.reports import EvalReport

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

T = TypeVar("T")

BY_RULE = "by rule: "
"""Begins the reason for leaving out what the recipe says is not wanted, or what holds no text, such as merge commits:
it is counted and listed, and no loss."""

Filter: TypeAlias = Callable[[Document], str | None]
"""Judge one document: None keeps it; a short reason drops it, and is counted in the manifest."""

TokenFilter: TypeAlias = Callable[[EncodedDocument], str | None]
"""Judge one encoded document, with what a `Filter` answers; it may remember those it has kept before."""

Chunker: TypeAlias = Callable[[Iterable[EncodedDocument]], Iterator[Chunk]]
"""Turn encoded documents into chunks, stream to stream, holding no more than it must."""

Callback: TypeAlias = Any
"""A `transformers.TrainerCallback`; not named here, so that the contract imports no training stack."""


Patch: TypeAlias = "Callable[[PreTrainedModel], None]"
"""Change how a model computes, not what: logits and gradients stay, and so do the names of its weights."""


@dataclass(frozen=True)
class RopeFrequencies:
    """The rotary frequencies that a scaler promises, by its published formula in double precision."""

    inv_freq: tuple[float, ...]
    """Radians per token, shape (rotary dimension / 2,)."""
    attention_scaling: float = 1.0
    """Factor on cos and sin."""


class RopeScaler(Protocol):
    """Change a model config before the weights load, and say which frequencies must come of it.

    The config that it is called with has the RoPE of the model that the recipe starts with, whatever stages before
    have done; so a scaler sees one thing alone. Where each layer type has RoPE of its own, `full_attention` is scaled.
    """

    def __call__(self, config: PreTrainedConfig) -> None:
        """Write complete `rope_parameters` (theta included) and `max_position_embeddings` into a text model's config.

        Raises:
            CtxkitError: the architecture cannot take this change, with the reason.
        """

    def frequencies(self, dim: int, rope_theta: float, length: int) -> RopeFrequencies:
        """Return how the model must rotate; the core calls its rotary modules after loading, and compares.

        Args:
            dim: Rotary dimensions of a head.
            rope_theta: That of the model that the recipe starts with, before the scaling.
            length: Tokens of the sequence; some kinds choose their frequencies by it.
        """


class Eval(Protocol):
    """Measure a model."""

    def __call__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> EvalReport:
        """Return the measurements; the model is in eval mode, and no gradient is wanted."""


def _untracked(items: Iterable[T], description: str, total: int) -> Iterator[T]:
    """Pass items on without showing progress."""
    del description, total
    yield from items


def _uncounted(document: EncodedDocument, tokens: int, reason: str) -> None:
    """Forget a drop; the core passes a function that counts."""
    del document, tokens, reason


def _unskipped(document_id: str, reason: str) -> None:
    """Forget what a source left out; the core passes a function that counts."""
    del document_id, reason


@dataclass(frozen=True)
class Context:
    """What a component is handed when it builds its object."""

    seed: int = 0
    """The seed of the recipe; anything random derives from it."""
    tokenizer: PreTrainedTokenizerBase | None = None
    """Absent only while the tokenizer itself is trained."""
    original_max_position_embeddings: int = 0
    """The true pre-training window in tokens, the same for every stage; 0 where no model is concerned."""
    dropped: Callable[[EncodedDocument, int, str], None] = field(default=_uncounted)
    """Count tokens that a chunker leaves out: the document, how many tokens, and why; the reason begins with `BY_RULE`
    where it is no loss, as with the begin and end tokens of documents that are joined."""
    skipped: Callable[[str, str], None] = field(default=_unskipped)
    """Count what a source found and left out, such as a binary file or a broken row, or a phase that a curriculum
    skipped: its id or name, and why; the reason of a source begins with `BY_RULE` where it is no loss."""
    track: Callable[[Iterable[Any], str, int], Iterator[Any]] = field(default=_untracked)
    """Show progress over an iterable: `for x in context.track(items, "passkey", total)`."""
    cells: Callable[[str, Mapping[str, Work]], Cells] = field(default=in_order)
    """Measure the cells of an eval: `context.cells("passkey", {"4096": lambda: ..., ...})`. Each that is finished is
    saved, so that an eval that was killed goes on with the next; one that fails costs no other. Called once in an eval
    whose options say `in_cells`: several processes then share the cells, and the model is asked nowhere else."""
