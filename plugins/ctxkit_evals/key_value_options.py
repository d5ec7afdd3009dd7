"""The options of key-value retrieval."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, PositiveInt, model_validator

from ctxkit.spec import Context, EvalOptions, Samples, Tokens

if TYPE_CHECKING:
    from ctxkit_evals.key_value import KeyValue

PromptLength = Annotated[int, Field(ge=64), Tokens(least=768)]
"""A prompt of fewer bytes has no room for a pair at each of the default depths."""
Depth = Annotated[float, Field(ge=0, le=1)]


class KeyValueOptions(EvalOptions):
    """Recall of the value of one key of a JSON object of random UUIDs, by context length and depth, in tokens."""

    in_cells: ClassVar[bool] = True
    kind: Literal["key_value"]
    lengths: tuple[PromptLength, ...] = Field(min_length=1)
    """Context lengths in tokens: as many pairs as fit, with question and answer."""
    depths: tuple[Depth, ...] = Field(default=(0.0, 0.25, 0.5, 0.75, 1.0), min_length=1)
    """Which pairs are asked for: 0 is the first, 1 the last. All of them stand in one object, which is read once."""
    samples: Annotated[PositiveInt, Samples()] = 20
    """Objects for each length."""
    preamble: str = "Extract the value corresponding to the specified key in the JSON object below.\n\nJSON data:\n"
    """What the prompt begins with."""
    question: str = '\n\nKey: "{key}"\nCorresponding value: "'
    """What the prompt ends with; `{key}` stands for the key, and the value must follow at once."""
    batch_size: PositiveInt = 4
    """Prompts measured at once."""

    @model_validator(mode="after")
    def _stated(self) -> KeyValueOptions:
        if "{key}" not in self.question:
            raise ValueError("the question must hold `{key}`")
        if len(set(self.lengths)) < len(self.lengths) or len(set(self.depths)) < len(self.depths):
            raise ValueError("a length or a depth is stated twice")
        return self

    def check(self, context: Context) -> None:
        """Make prompts of each length: a pair for each depth must fit."""
        if context.tokenizer is not None:
            measure = self.build(context)
            for length in self.lengths:
                measure.prompts(context.tokenizer, length, [0])

    def build(self, context: Context) -> KeyValue:
        """Return the measurement."""
        from ctxkit_evals.key_value import KeyValue

        return KeyValue(
            lengths=self.lengths,
            depths=self.depths,
            samples=self.samples,
            preamble=self.preamble,
            question=self.question,
            batch_size=self.batch_size,
            seed=context.seed,
            cells=context.cells,
        )
