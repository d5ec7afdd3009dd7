"""What a kind of `rope` that is found by a search says of it, and what it is handed for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctxkit.spec.roles import Context, RopeScaler

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

    from ctxkit.spec.options import SourceOptions


@dataclass(frozen=True, kw_only=True)
class RopeSearch:
    """A search that a recipe declares: the core reads the documents, keeps the journal and writes the result."""

    file: Path
    """Where the result is written, as JSON."""
    option: str
    """The option of `rope` that names the file, for messages."""
    source: SourceOptions
    """Where the documents come from on which candidates are measured."""
    documents: int
    """How many: the first that are as long as the target window, each cut to it."""
    seed: int
    """The only source of chance; the source gets it too."""
    evaluations: int = 0
    """Candidates that are measured at most, for the progress bar; 0 where nobody knows."""
    determined_by: Mapping[str, Any]
    """Every option that decides on the result, as plain values: a file or journal of others is not taken for it."""


@dataclass(frozen=True, kw_only=True)
class RopeSearchContext(Context):
    """What `RopeOptions.search` is handed: the model is loaded, and stays as it is but for its rotary frequencies."""

    config: PreTrainedConfig
    """Of the text model that the recipe starts with, before any scaling."""
    measure: Callable[[RopeScaler, int], float]
    """Perplexity of the documents, each cut to so many tokens, with the model's RoPE scaled so; infinite where it is
    not finite. What was measured before, by this process or one that was stopped, is looked up in the journal. Raises
    `CtxkitError` where the model cannot take the scaling or does not rotate as the scaler promises."""
