"""The options of needles in a haystack."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, PositiveInt, model_validator

from ctxkit.spec import Context, EvalOptions, Samples, SourceSlot, Tokens

if TYPE_CHECKING:
    from ctxkit_evals.needle import Needle

PromptLength = Annotated[int, Field(ge=16), Tokens(least=768)]
"""A prompt of fewer bytes has no room for several needles and the question in the default words."""
Depth = Annotated[float, Field(ge=0, le=1)]
Amount = Annotated[int, Field(ge=1, le=100)]
NEEDLE = " One of the special magic numbers for {key} is: {value}. "
PREAMBLE = (
    "A special magic number is hidden within the following text. Make sure to memorize it. "
    "I will quiz you about the number afterwards.\n"
)
PREAMBLES = (
    "Some special magic numbers are hidden within the following text. Make sure to memorize it. "
    "I will quiz you about the numbers afterwards.\n"
)
QUESTION = (
    "\nWhat is the special magic number for {key} mentioned in the provided text? "
    "The special magic number for {key} mentioned in the provided text is"
)
QUESTIONS = (
    "\nWhat are all the special magic numbers for {key} mentioned in the provided text? "
    "The special magic numbers for {key} mentioned in the provided text are"
)


class NeedleOptions(EvalOptions):
    """Share of hidden values that the model writes when asked for them, by context length and depth, in tokens."""

    in_cells: ClassVar[bool] = True
    kind: Literal["needle"]
    haystack: SourceSlot | None = None
    """Held-out documents around the needles; without any, the filler "The grass is green. The sky is blue. ..."."""
    lengths: tuple[PromptLength, ...] = Field(min_length=1)
    """Context lengths in tokens: the prompt, and all that the model may write, are exactly this long together."""
    depths: tuple[Depth, ...] = Field(default=(0.0, 0.25, 0.5, 0.75, 1.0), min_length=1)
    """Where the needle asked for stands: 0 is the front, 1 is right before the question. Only where a question asks for
    one value; with several the needles stand anywhere."""
    samples: Annotated[PositiveInt, Samples()] = 20
    """Texts for each length. Where a question asks for one value, prompts for each length and depth."""
    num_needle_k: Amount = 1
    """Keys in one text, each with values of its own; several are RULER's multi-key task. Each is asked for."""
    num_needle_v: Amount = 1
    """Values of each key, all asked for at once; several are RULER's multi-value task."""
    num_needle_q: Amount = 1
    """Keys asked for in one question; several are RULER's multi-query task. There are at least as many keys."""
    needle: str = NEEDLE
    """The sentence that states a value; `{key}` and `{value}` stand for them."""
    question: str | None = None
    """What the prompt ends with; `{key}` stands for what is asked for. RULER's words by default."""
    preamble: str | None = None
    """What the prompt begins with. RULER's words by default."""
    max_new_tokens: Annotated[PositiveInt, Tokens(least=8)] = 128
    """Tokens that the model may write; it stops where it has written all that was asked for."""
    chat: bool = False
    """Put the prompt into the chat template of the tokenizer, as what a user says."""
    batch_size: PositiveInt = 4
    """Prompts measured at once."""

    @model_validator(mode="after")
    def _stated(self) -> NeedleOptions:
        if "{value}" not in self.needle:
            raise ValueError("the needle must hold `{value}`")
        question, _ = self._texts()
        if self._names() > 1 and not ("{key}" in self.needle and "{key}" in question):
            raise ValueError("with several keys, the needle and the question must hold `{key}`")
        if len(set(self.lengths)) < len(self.lengths) or len(set(self.depths)) < len(self.depths):
            raise ValueError("a length or a depth is stated twice")
        return self

    def _names(self) -> int:
        return max(self.num_needle_k, self.num_needle_q)

    def _texts(self) -> tuple[str, str]:
        """Return the question and the preamble, in the singular where one value is asked for."""
        one = self.num_needle_v == self.num_needle_q == 1
        question, preamble = (QUESTION, PREAMBLE) if one else (QUESTIONS, PREAMBLES)
        return (
            question if self.question is None else self.question,
            preamble if self.preamble is None else self.preamble,
        )

    def check(self, context: Context) -> None:
        """Make prompts of each length: needles and question must fit, and the haystack be large enough."""
        if context.tokenizer is not None:
            measure = self.build(context)
            haystack = measure.haystack(context.tokenizer)
            for length in self.lengths:
                measure.prompts(context.tokenizer, haystack, length, [0])

    def build(self, context: Context) -> Needle:
        """Return the measurement."""
        from ctxkit_evals.hiding import Wording
        from ctxkit_evals.needle import Needle
        from ctxkit_evals.pages import Amounts

        question, preamble = self._texts()
        return Needle(
            documents=self.haystack.build(context) if self.haystack else None,
            lengths=self.lengths,
            depths=self.depths,
            samples=self.samples,
            amounts=Amounts(self._names(), self.num_needle_v, self.num_needle_q),
            wording=Wording(self.needle, question, preamble, name="{key}", value="{value}"),
            max_new_tokens=self.max_new_tokens,
            chat=self.chat,
            batch_size=self.batch_size,
            seed=context.seed,
            cells=context.cells,
        )
