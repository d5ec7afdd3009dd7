"""What a recipe may say about LongRoPE: factors inline, or from the file of a search."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from ctxkit_rope.options import ExtensionOptions

if TYPE_CHECKING:
    from ctxkit.spec import Context, RopeScaler

Factors = tuple[Annotated[float, Field(gt=0)], ...]
LISTS = ("long_factor", "short_factor")


class LongropeOptions(ExtensionOptions):
    """LongRoPE: every dimension divided by a factor of its own, beyond the original window by others than within."""

    kind: Literal["longrope"]
    """LongRoPE (Ding et al. 2024), as its reference code and transformers compute it."""
    long_factor: Factors | None = None
    """For sequences beyond the original window: one factor for each pair of rotary dimensions, the fastest first."""
    short_factor: Factors | None = None
    """For sequences within the original window; unset, ones, which leave it as it was."""
    factors: str | None = None
    """JSON file with `long_factor` and, at will, `short_factor`, instead of writing them here; a `target_length` in it
    must be that of the recipe, where it states one. The lists are read with the recipe, and stand in its resolved
    form."""
    attention_factor: float | None = Field(default=None, gt=0)
    """Factor on cos and sin; unset, the paper's sqrt(1 + ln(factor) / ln(original window)), as servers assume."""

    @model_validator(mode="before")
    @classmethod
    def _read(cls, stated: Any) -> Any:
        """Put the lists of the file in its place, so that what determines a run is in its recipe."""
        if not isinstance(stated, dict) or not isinstance(stated.get("factors"), str):
            return stated
        if any(stated.get(name) is not None for name in LISTS):
            raise ValueError("factors names a file with the lists; state it, or long_factor and short_factor")
        found = _read_json(stated["factors"])
        searched, asked = found.get("target_length"), stated.get("target_length")
        if None not in (searched, asked) and searched != asked:
            raise ValueError(f"the file of factors was made for a target_length of {searched}, not {asked}")
        lists = {name: found[name] for name in LISTS if found.get(name) is not None}
        return {**{key: value for key, value in stated.items() if key != "factors"}, **lists}

    @model_validator(mode="after")
    def _some_factors(self) -> Self:
        """Refuse a recipe without long factors: there is no formula for them."""
        if not self.long_factor:
            raise ValueError("longrope needs long_factor, or factors with the JSON file of a search")
        if self.short_factor is not None and len(self.short_factor) != len(self.long_factor):
            raise ValueError(
                f"short_factor has {len(self.short_factor)} values, and long_factor {len(self.long_factor)}"
            )
        return self

    def build(self, context: Context) -> RopeScaler:
        """Return the scaler for the window that the options and the original window give."""
        from ctxkit_rope.longrope import LongropeScaler

        original, target = self.windows(context)
        return LongropeScaler(
            original_max_position_embeddings=original,
            target_length=target,
            long_factor=self.long_factor or (),
            short_factor=self.short_factor,
            attention_factor=self.attention_factor,
        )


def _read_json(path: str) -> dict[str, Any]:
    """Return the mapping that a JSON file holds.

    Raises:
        ValueError: it cannot be read, or holds something else; the message names the key of the recipe.
    """
    try:
        found = json.loads(Path(path).expanduser().read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"factors: {path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"factors: {path} is not JSON: {error}") from error
    if not isinstance(found, dict) or not found.get("long_factor"):
        raise ValueError(f"factors: {path} holds no long_factor")
    return found
