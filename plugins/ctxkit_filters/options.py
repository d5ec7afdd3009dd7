"""The options of each filter."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from ctxkit.spec import Context, Filter, FilterOptions


class LengthOptions(FilterOptions):
    """Keep documents of a certain length in characters."""

    kind: Literal["length"]
    min_characters: int = Field(default=1, ge=0)
    """Shorter documents are dropped."""
    max_characters: int | None = Field(default=None, ge=1)
    """Longer documents are dropped; null keeps them all."""

    @model_validator(mode="after")
    def _ordered(self) -> LengthOptions:
        if self.max_characters is not None and self.max_characters < self.min_characters:
            raise ValueError("needs min_characters <= max_characters")
        return self

    def build(self, context: Context) -> Filter:
        """Return the judge."""
        from ctxkit_filters.length import LengthFilter

        return LengthFilter(self.min_characters, self.max_characters)
