"""What a recipe may say about the eval that asks about snippets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from ctxkit.spec import Context, EvalOptions, Samples, SourceSlot, Tokens

if TYPE_CHECKING:
    from ctxkit_chunkers.snippet_eval import SnippetQa

Length = Annotated[int, Field(ge=256), Tokens()]


class SnippetQaEvalOptions(EvalOptions):
    """Which of the numbered snippets of real files defines a name, by context length."""

    in_cells: ClassVar[bool] = True

    kind: Literal["snippet_qa"]
    """Which of the numbered snippets of real files defines a name, by context length."""
    source: SourceSlot
    """Held-out files of code; keep them out of every training source."""
    lengths: tuple[Length, ...] = Field(min_length=1)
    """Context lengths in tokens, answer included; each at least 256."""
    samples: Annotated[PositiveInt, Samples()] = 50
    """Prompts for each length, one question each."""
    batch_size: PositiveInt = 4
    """Prompts measured at once."""

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if len(set(self.lengths)) < len(self.lengths):
            raise ValueError("a length is stated twice")
        return self

    def check(self, context: Context) -> None:
        """Make the prompts: the source must be long enough and define names."""
        if context.tokenizer is not None:
            list(self.build(context).prompts(context.tokenizer))

    def build(self, context: Context) -> SnippetQa:
        """Return the measurement."""
        from ctxkit_chunkers.snippet_eval import SnippetQa

        return SnippetQa(
            documents=self.source.build(context),
            lengths=self.lengths,
            samples=self.samples,
            batch_size=self.batch_size,
            seed=context.seed,
            cells=context.cells,
        )
