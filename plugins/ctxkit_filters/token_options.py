"""The options of the filters that judge the tokens of a document."""

from __future__ import annotations

from itertools import chain
from typing import Annotated, Literal

from pydantic import Field, PositiveInt, model_validator

from ctxkit.errors import DataError
from ctxkit.spec import Context, SourceSlot, TokenFilter, TokenFilterOptions, Tokens

Ngram = Annotated[int, Field(ge=1, le=4096)]


class TokensOptions(TokenFilterOptions):
    """Keep documents of a certain length in tokens, begin and end tokens included."""

    kind: Literal["tokens"]
    min_tokens: Annotated[int, Tokens()] = Field(default=1, ge=0)
    """Shorter documents are dropped."""
    max_tokens: Annotated[int, Tokens()] | None = Field(default=None, ge=1)
    """Longer documents are dropped; null keeps them all."""

    @model_validator(mode="after")
    def _ordered(self) -> TokensOptions:
        if self.max_tokens is not None and self.max_tokens < self.min_tokens:
            raise ValueError("needs min_tokens <= max_tokens")
        return self

    def build(self, context: Context) -> TokenFilter:
        """Return the judge."""
        from ctxkit_filters.length import TokensFilter

        return TokensFilter(self.min_tokens, self.max_tokens)


METHODS = {"ngrams": ("ngram", "max_ratio"), "window": ("window", "threshold")}
"""The options that each method of `repetition` reads."""


class RepetitionOptions(TokenFilterOptions):
    """Drop documents that repeat themselves: copied passages, loops, tables of the same row."""

    kind: Literal["repetition"]
    method: Literal["ngrams", "window"] = "ngrams"
    """`ngrams` counts n-grams that stood in the document before, at any distance. `window` only looks whether a window
    of tokens nearly equals the one right behind it, thus misses copies farther off, and is likelier to drop a document
    the longer that is."""
    max_ratio: float = Field(default=0.2, ge=0, le=1)
    """Of method `ngrams`: the largest share of repeated n-grams that a kept document has."""
    ngram: Ngram = 50
    """Of method `ngrams`: tokens of an n-gram."""
    window: PositiveInt = 50
    """Of method `window`: tokens of a window."""
    threshold: float = Field(default=0.8, ge=0, le=1)
    """Of method `window`: the largest share of equal tokens in neighbouring windows that a kept document has."""

    @model_validator(mode="after")
    def _read(self) -> RepetitionOptions:
        fields = type(self).model_fields
        for method, names in METHODS.items():
            for name in names:
                if method != self.method and getattr(self, name) != fields[name].default:
                    raise ValueError(f"`{name}` is read by method `{method}` alone")
        return self

    def build(self, context: Context) -> TokenFilter:
        """Return the judge."""
        from ctxkit_filters.repetition import RepetitionFilter, WindowFilter

        if self.method == "window":
            return WindowFilter(self.window, self.threshold)
        return RepetitionFilter(self.ngram, self.max_ratio)


class ExactDuplicatesOptions(TokenFilterOptions):
    """Drop documents whose tokens all equal those of a document before; the first stays."""

    kind: Literal["exact_duplicates"]

    def build(self, context: Context) -> TokenFilter:
        """Return the judge."""
        from ctxkit_filters.exact_duplicates import ExactDuplicateFilter

        return ExactDuplicateFilter()


class NearDuplicatesOptions(TokenFilterOptions):
    """Drop documents that are nearly the same as one kept before, by MinHash over their n-grams; the first stays.

    It remembers about 400 to 800 bytes a kept document by default, and as many more as `num_perm` grows.
    """

    kind: Literal["near_duplicates"]
    threshold: float = Field(default=0.8, gt=0, le=1)
    """The Jaccard similarity of two documents' n-grams, shared ones divided by all, from which the second goes."""
    num_perm: int = Field(default=128, ge=16, le=1024)
    """Values in the signature of a document; the similarity is estimated within about 1 / sqrt(num_perm)."""
    ngram: Ngram = 5
    """Tokens of an n-gram."""

    def build(self, context: Context) -> TokenFilter:
        """Return the judge."""
        from ctxkit_filters.near_duplicates import NearDuplicateFilter

        return NearDuplicateFilter.of(threshold=self.threshold, num_perm=self.num_perm, ngram=self.ngram)


class LeakageOptions(TokenFilterOptions):
    """Drop training documents that share n-grams with what the model is measured on.

    Brown et al. (2020, appendix C) took 13 words, and dropped or cut whatever shared one. They warn that long documents
    then go for a single quotation, and legal boilerplate matches everywhere: allow long ones some matches.
    """

    kind: Literal["leakage"]
    against: tuple[SourceSlot, ...] = Field(min_length=1)
    """Where the documents come from that must not be trained on: benchmarks, the sources of evals."""
    ngram: Ngram = 13
    """Tokens of an n-gram. Held-out documents with fewer cannot be looked for, and are counted as skipped."""
    max_matches: int = Field(default=0, ge=0)
    """A document is kept if at most so many of its n-grams are held out,"""
    max_ratio: float = Field(default=0.0, ge=0, le=1)
    """or if at most this share of its n-grams is."""

    def build(self, context: Context) -> TokenFilter:
        """Read and encode the held-out documents, and return the judge.

        Raises:
            DataError: there is no tokenizer, or no held-out document has as many tokens as an n-gram.
        """
        from ctxkit_filters.leakage import LeakageFilter, held_out

        if context.tokenizer is None:
            raise DataError("leakage compares tokens, and there is no tokenizer yet", "leave it out here")
        documents = chain.from_iterable(source.build(context) for source in self.against)
        against = held_out(documents, context.tokenizer, self.ngram, context.skipped)
        return LeakageFilter(against, self.max_matches, self.max_ratio)
