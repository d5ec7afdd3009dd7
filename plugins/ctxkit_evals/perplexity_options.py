"""The options of perplexity."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, PositiveInt, model_validator

from ctxkit.spec import Context, EvalOptions, Samples, SourceSlot, Tokens

if TYPE_CHECKING:
    from ctxkit_evals.perplexity import Perplexity

Length = Annotated[int, Field(ge=8), Tokens()]


class PerplexityOptions(EvalOptions):
    """Perplexity by context length, over the whole window and over its last quarter."""

    kind: Literal["perplexity"]
    source: SourceSlot
    """Held-out documents; keep them out of every training source."""
    lengths: tuple[Length, ...] = Field(min_length=1)
    """Context lengths in tokens. For every length the windows end at the same tokens, so the texts are the same."""
    windows: Annotated[PositiveInt, Samples(least=2)] = 32
    """How many, spread over the documents that hold the longest length."""
    batch_size: PositiveInt = 4
    """Windows measured at once."""

    @model_validator(mode="after")
    def _distinct(self) -> PerplexityOptions:
        if len(set(self.lengths)) < len(self.lengths):
            raise ValueError("a length is stated twice")
        return self

    def check(self, context: Context) -> None:
        """Choose the windows: some document must be long enough."""
        if context.tokenizer is not None:
            self.build(context).chosen(context.tokenizer)

    def build(self, context: Context) -> Perplexity:
        """Return the measurement."""
        from ctxkit_evals.perplexity import Perplexity

        return Perplexity(
            documents=self.source.build(context),
            lengths=self.lengths,
            windows=self.windows,
            batch_size=self.batch_size,
            seed=context.seed,
            track=context.track,
        )
