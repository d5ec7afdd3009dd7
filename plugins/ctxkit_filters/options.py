"""The options of the filters that judge a text."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from ctxkit.spec import Characters, Context, Filter, FilterOptions

CREDENTIALS = Literal["private_key", "aws", "github", "slack", "google"]
MARKS = (
    r"[\[<({]\|?\s*(?:\w+ ){0,2}truncated\s*\|?[\])>}]",
    r"[\[(]\s*(?:to be )?continued(?: (?:on|in|below|next)\b[^\])\n]{0,40})?\s*(?:\.\.\.|…)?\s*[\])]",
    r"\[\s*\+\s*\d+ (?:more )?(?:chars?|characters|words|lines)\s*\]",
    r"(?:\.\.\.|…|\n)\s*[\[(]?(?:read|show|see|view|load) more\s*(?:\.\.\.|[…»→>])*[\])]?",
    r"(?:\b\w+,? ){4}\[\s*(?:\.\.\.|…)\s*\]",
    r"\ufffd",
)
"""What a cut leaves at the end of a text: `[truncated]` and its like, `(continued)`, `[+1234 chars]`, `Read more` as a
last line or after an ellipsis, `[...]` after four words, and the mark of a character that was cut in half."""


class LengthOptions(FilterOptions):
    """Keep documents of a certain length in characters."""

    kind: Literal["length"]
    min_characters: Annotated[int, Characters()] = Field(default=1, ge=0)
    """Shorter documents are dropped."""
    max_characters: Annotated[int, Characters()] | None = Field(default=None, ge=1)
    """Longer documents are dropped; null keeps them all."""

    @model_validator(mode="after")
    def _ordered(self) -> LengthOptions:
        if self.max_characters is not None and self.max_characters < self.min_characters:
            raise ValueError("needs min_characters <= max_characters")
        return self

    def uses_seed(self) -> bool:
        """Return False: the text decides."""
        return False

    def build(self, context: Context) -> Filter:
        """Return the judge."""
        from ctxkit_filters.length import LengthFilter

        return LengthFilter(self.min_characters, self.max_characters)


class TruncationOptions(FilterOptions):
    """Drop documents that were cut before they came here, told by what the cut left at their end.

    A text that merely stops without a full stop is kept: code, lists, poems and headings do.
    """

    kind: Literal["truncation"]
    patterns: tuple[str, ...] = MARKS
    """Regular expressions, matched in capital or small letters within the last 200 characters and up to the end of the
    text, white space after it aside. By default: `[truncated]` and its like, `(continued)`, `[+1234 chars]`,
    `Read more` as a last line or after an ellipsis, `[...]` after four words, a character cut in half."""
    code_fences: bool = True
    """Whether to drop texts that end within a fenced code block of Markdown."""

    @field_validator("patterns")
    @classmethod
    def _compiled(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in patterns:
            try:
                re.compile(f"(?:{pattern})")
            except re.error as error:
                raise ValueError(f"`{pattern}` is no regular expression: {error}") from error
        return patterns

    def uses_seed(self) -> bool:
        """Return False: the text decides."""
        return False

    def build(self, context: Context) -> Filter:
        """Return the judge."""
        from ctxkit_filters.truncation import TruncationFilter

        return TruncationFilter.of(patterns=self.patterns, code_fences=self.code_fences)


class SecretsOptions(FilterOptions):
    """Drop documents that hold credentials of well-known forms.

    No guarantee that none is left: most passwords and many tokens have no form to know them by. The reasons name the
    kind of a credential and never the credential.
    """

    kind: Literal["secrets"]
    kinds: tuple[CREDENTIALS, ...] = Field(default=("private_key", "aws", "github", "slack", "google"), min_length=1)
    """What is looked for: PEM and OpenPGP private keys, AWS access key ids, GitHub tokens, Slack tokens and webhooks,
    Google API keys and client secrets."""

    def uses_seed(self) -> bool:
        """Return False: the text decides."""
        return False

    def build(self, context: Context) -> Filter:
        """Return the judge."""
        from ctxkit_filters.credentials import CredentialFilter

        return CredentialFilter(self.kinds)
