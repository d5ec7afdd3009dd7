"""The options of passkey retrieval."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, PositiveInt, model_validator

from ctxkit.spec import Context, EvalOptions, Samples, SourceSlot, Tokens

if TYPE_CHECKING:
    from ctxkit_evals.passkey import Passkey

PromptLength = Annotated[int, Field(ge=8), Tokens(least=96)]
"""A prompt of fewer bytes has no room for the needle and question that are the defaults."""
Depth = Annotated[float, Field(ge=0, le=1)]


class PasskeyOptions(EvalOptions):
    """Recall of a random five-digit key hidden at a depth of a text, by context length, in tokens."""

    kind: Literal["passkey"]
    haystack: SourceSlot
    """Held-out documents around the key."""
    lengths: tuple[PromptLength, ...] = Field(min_length=1)
    """Context lengths in tokens: prompt and answer together are exactly this long."""
    depths: tuple[Depth, ...] = Field(default=(0.0, 0.25, 0.5, 0.75, 1.0), min_length=1)
    """Where in the text the key stands: 0 is the front, 1 is right before the question."""
    samples: Annotated[PositiveInt, Samples()] = 20
    """Prompts for each length and depth."""
    needle: str = " The pass key is {key}. Remember it. "
    """The sentence that states the key; `{key}` stands for it."""
    question: str = " What is the pass key? The pass key is "
    """What the prompt ends with; the answer must follow at once."""
    batch_size: PositiveInt = 4
    """Prompts measured at once."""

    @model_validator(mode="after")
    def _stated(self) -> PasskeyOptions:
        if "{key}" not in self.needle:
            raise ValueError("the needle must hold `{key}`")
        if len(set(self.lengths)) < len(self.lengths) or len(set(self.depths)) < len(self.depths):
            raise ValueError("a length or a depth is stated twice")
        return self

    def check(self, context: Context) -> None:
        """Make the prompts: needle and question must fit every length, and the haystack be large enough."""
        if context.tokenizer is not None:
            list(self.build(context).prompts(context.tokenizer))

    def build(self, context: Context) -> Passkey:
        """Return the measurement."""
        from ctxkit_evals.passkey import Passkey, Wording

        return Passkey(
            documents=self.haystack.build(context),
            lengths=self.lengths,
            depths=self.depths,
            samples=self.samples,
            wording=Wording(self.needle, self.question),
            batch_size=self.batch_size,
            seed=context.seed,
            track=context.track,
        )
