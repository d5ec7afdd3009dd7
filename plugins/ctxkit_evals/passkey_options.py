"""The options of passkey retrieval."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, PositiveInt, model_validator

from ctxkit.spec import Context, EvalOptions, Samples, SourceSlot, Tokens

if TYPE_CHECKING:
    from ctxkit_evals.passkey import Passkey

PromptLength = Annotated[int, Field(ge=8), Tokens(least=96)]
"""A prompt of fewer bytes has no room for the needle and question that are the defaults."""
Depth = Annotated[float, Field(ge=0, le=1)]
DEPTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
NEEDLE = " The pass key is {key}. Remember it. "
NAMED_NEEDLE = " The pass key of {name} is {key}. Remember it. "
QUESTION = " What is the pass key? The pass key is "
NAMED_QUESTION = " What is the pass key of {name}? The pass key of {name} is "


class PasskeyOptions(EvalOptions):
    """Recall of a random five-digit key hidden at a depth of a text, by context length, in tokens."""

    in_cells: ClassVar[bool] = True
    kind: Literal["passkey"]
    haystack: SourceSlot | None = None
    """Held-out documents around the key; without any, the filler of Mohtashami and Jaggi 2023: "The grass is green. The
    sky is blue. ..."."""
    lengths: tuple[PromptLength, ...] = Field(min_length=1)
    """Context lengths in tokens: prompt and answer together are exactly this long."""
    depths: tuple[Depth, ...] = Field(default=DEPTHS, min_length=1)
    """Where in the text the key stands: 0 is the front, 1 is right before the question."""
    samples: Annotated[PositiveInt, Samples()] = 20
    """Prompts for each length and depth."""
    keys: Annotated[int, Field(ge=1, le=100)] = 1
    """Keys in one prompt. Several stand at several depths, each with a name, and each is asked for by it: the text is
    read once for all of them, so that this costs a fraction of one key a prompt; and it is harder."""
    needle: str | None = None
    """The sentence that states the key; `{key}` stands for it, `{name}` for its name. By default
    ` The pass key is {key}. Remember it. `, or with several keys ` The pass key of {name} is {key}. Remember it. `."""
    question: str | None = None
    """What the prompt ends with; the answer must follow at once. By default
    ` What is the pass key? The pass key is `, or with several keys
    ` What is the pass key of {name}? The pass key of {name} is `."""
    preamble: str = ""
    """What the prompt begins with, such as what will be asked."""
    batch_size: PositiveInt = 4
    """Prompts measured at once."""

    @model_validator(mode="after")
    def _stated(self) -> PasskeyOptions:
        needle, question = self._texts()
        if "{key}" not in needle:
            raise ValueError("the needle must hold `{key}`")
        if self.keys > 1 and not ("{name}" in needle and "{name}" in question):
            raise ValueError("with several keys, the needle and the question must hold `{name}`")
        if len(set(self.lengths)) < len(self.lengths) or len(set(self.depths)) < len(self.depths):
            raise ValueError("a length or a depth is stated twice")
        return self

    def _texts(self) -> tuple[str, str]:
        needle, question = (NEEDLE, QUESTION) if self.keys == 1 else (NAMED_NEEDLE, NAMED_QUESTION)
        return needle if self.needle is None else self.needle, question if self.question is None else self.question

    def check(self, context: Context) -> None:
        """Make prompts of each length: needle and question must fit, and the haystack be large enough."""
        if context.tokenizer is not None:
            measure = self.build(context)
            haystack = measure.haystack(context.tokenizer)
            for length in self.lengths:
                measure.prompts(context.tokenizer, haystack, length, [0])

    def build(self, context: Context) -> Passkey:
        """Return the measurement."""
        from ctxkit_evals.hiding import Wording
        from ctxkit_evals.passkey import Passkey

        return Passkey(
            documents=self.haystack.build(context) if self.haystack else None,
            lengths=self.lengths,
            depths=self.depths,
            samples=self.samples,
            keys=self.keys,
            wording=Wording(*self._texts(), preamble=self.preamble),
            batch_size=self.batch_size,
            seed=context.seed,
            cells=context.cells,
        )
