"""The options of perplexity."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, PositiveInt, model_validator

from ctxkit.spec import Context, EvalOptions, Samples, SourceSlot, Tokens

if TYPE_CHECKING:
    from ctxkit_evals.perplexity import Perplexity
    from ctxkit_evals.perplexity_yarn import YarnPerplexity

Length = Annotated[int, Field(ge=8), Tokens()]


class PerplexityOptions(EvalOptions):
    """Perplexity by context length in sliding windows, of whole texts, of their last quarters and by position."""

    in_cells: ClassVar[bool] = True
    kind: Literal["perplexity"]
    source: SourceSlot
    """Held-out documents; keep them out of every training source."""
    lengths: tuple[Length, ...] = Field(min_length=1)
    """Context lengths in tokens. The texts are as long as the longest, and every length scores the same tokens."""
    windows: Annotated[PositiveInt, Samples(least=2)] = 32
    """Texts, spread over the documents that hold the longest length."""
    stride: Annotated[PositiveInt, Tokens()] = 256
    """Tokens by which a window moves over a text, and scores: fewer give each token more of the window as context, at
    more cost. Half of a length is the most."""
    batch_size: PositiveInt = 4
    """Windows of the longest length measured at once; of shorter ones as many as have the same tokens."""
    reference: Literal["yarn", "yarn_truncate"] | None = None
    """The published script whose number is measured instead, as `perplexity_yarn`: that of YaRN, over the first
    `windows` documents that hold the longest length, whole, or each cut to the length as with its `--truncate`."""

    @model_validator(mode="after")
    def _distinct(self) -> PerplexityOptions:
        if len(set(self.lengths)) < len(self.lengths):
            raise ValueError("a length is stated twice")
        return self

    def check(self, context: Context) -> None:
        """Choose the texts: some document must be long enough."""
        if context.tokenizer is not None:
            self.build(context).chosen(context.tokenizer)

    def build(self, context: Context) -> Perplexity | YarnPerplexity:
        """Return the measurement."""
        from ctxkit_evals.perplexity import Perplexity
        from ctxkit_evals.perplexity_yarn import YarnPerplexity

        chosen: dict[str, Any] = {
            "documents": self.source.build(context),
            "lengths": self.lengths,
            "texts": self.windows,
            "stride": self.stride,
            "batch_size": self.batch_size,
            "seed": context.seed,
            "cells": context.cells,
        }
        if self.reference is None:
            return Perplexity(**chosen)
        return YarnPerplexity(**chosen, truncate=self.reference == "yarn_truncate")
