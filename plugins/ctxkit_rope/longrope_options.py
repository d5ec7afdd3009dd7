"""What a recipe may say about LongRoPE: factors inline, or from the file of a search."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, ModelWrapValidatorHandler, PositiveInt, PrivateAttr, model_validator

from ctxkit.errors import CtxkitError, ExitCode
from ctxkit.spec import Options, RopeSearch, SourceSlot
from ctxkit_rope.evolution import Sizes
from ctxkit_rope.options import ExtensionOptions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ctxkit.spec import Context, RopeScaler, RopeSearchContext

Factors = tuple[Annotated[float, Field(gt=0)], ...]
LISTS = ("long_factor", "short_factor")
_ANEW = "name another file; or declare `search` with a file of its own, and `ctxkit search-rope RECIPE`"


class LongropeSearch(Options):
    """How `ctxkit search-rope` finds the factors; the values are those of the paper unless stated."""

    source: SourceSlot
    """Where the documents come from on which candidates are measured; keep them out of training and evals."""
    documents: PositiveInt = 5
    """How many documents: the first that have as many tokens as the target window, each cut to it."""
    population: int = Field(default=64, ge=3)
    """Candidates to begin with: those of PI, NTK and YaRN, the rest mutations of them."""
    iterations: PositiveInt = 40
    """How often parents are chosen and have children."""
    mutations: PositiveInt = 16
    """Children of an iteration that are mutations of a parent."""
    crossovers: int = Field(default=16, ge=0)
    """Children of an iteration that have factors of two parents."""
    parents: PositiveInt = 32
    """The best candidates, which have the children of an iteration and stay beside them."""
    mutation_probability: float = Field(default=0.3, gt=0, le=1)
    """Chance of each factor to be drawn anew in a mutation, or to come from the second parent in a crossover."""
    step: float = Field(default=0.01, gt=0, le=1)
    """Between one factor and the next that may be, from 1 to 1.25 times target / original window."""
    seed: int = Field(default=0, ge=0)
    """The only source of chance; the same seed finds the same factors."""

    @property
    def sizes(self) -> Sizes:
        """How much is tried."""
        return Sizes(**{name: getattr(self, name) for name in Sizes.__dataclass_fields__})


class LongropeOptions(ExtensionOptions):
    """LongRoPE: every dimension divided by a factor of its own, beyond the original window by others than within."""

    kind: Literal["longrope"]
    """LongRoPE (Ding et al. 2024), as its reference code and transformers compute it."""
    long_factor: Factors | None = None
    """For sequences beyond the original window: one factor for each pair of rotary dimensions, the fastest first."""
    short_factor: Factors | None = None
    """For sequences within the original window; unset, ones, which leave it as it was."""
    factors: str | None = Field(default=None, exclude=True)
    """JSON file with `long_factor` and, at will, `short_factor`, instead of writing them here; a `target_length` in it
    must be the target window of the recipe, in tokens. The lists are read with the recipe, and stand in its resolved
    form."""
    search: LongropeSearch | None = Field(default=None, exclude=True)
    """How `ctxkit search-rope` makes the file that `factors` names."""
    attention_factor: float | None = Field(default=None, gt=0)
    """Factor on cos and sin; unset, the paper's sqrt(1 + ln(factor) / ln(original window)), as servers assume."""

    _made_for: Any = PrivateAttr(default=None)
    """The target window for which the lists were found, as their file states it, in tokens."""

    @model_validator(mode="wrap")
    @classmethod
    def _read(cls, stated: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Put the lists of the file in its place, so that what determines a run is in its recipe."""
        if not isinstance(stated, dict) or not isinstance(stated.get("factors"), str):
            return handler(stated)
        if any(stated.get(name) is not None for name in LISTS):
            raise ValueError("factors names a file with the lists; state it, or long_factor and short_factor")
        searched = stated.get("search") is not None
        if searched and not _path(stated["factors"]).exists():
            return handler(stated)
        found = _read_json(stated["factors"])
        made_for, asked = found.get("target_length"), stated.get("target_length")
        if None not in (made_for, asked) and made_for != asked and not searched:
            raise ValueError(f"the file of factors was made for a target_length of {made_for}, not {asked}: {_ANEW}")
        lists = {name: found[name] for name in LISTS if found.get(name) is not None}
        # A search needs to know later where its result goes.
        options = handler({**{key: value for key, value in stated.items() if key != "factors" or searched}, **lists})
        if asked is None or searched:  # with a factor, the window follows from the model's, which is not known here
            options._made_for = made_for  # noqa: SLF001
        return options

    @model_validator(mode="after")
    def _some_factors(self) -> Self:
        """Refuse a recipe without long factors, and without a search for them: there is no formula."""
        if self.search is not None and self.factors is None:
            raise ValueError("search needs factors, the JSON file that its result is written to")
        if self.long_factor is None and self.search is not None:
            return self
        if not self.long_factor:
            raise ValueError("longrope needs long_factor, or factors with the JSON file of a search")
        if self.short_factor is not None and len(self.short_factor) != len(self.long_factor):
            raise ValueError(
                f"short_factor has {len(self.short_factor)} values, and long_factor {len(self.long_factor)}"
            )
        return self

    def search_plan(self) -> RopeSearch | None:
        """Return the search that the recipe declares, if it does."""
        if self.search is None or self.factors is None:
            return None
        own = self.model_dump(mode="json", include={"kind", "factor", "target_length", "attention_factor"})
        return RopeSearch(
            file=_path(self.factors),
            option="factors",
            source=self.search.source,
            documents=self.search.documents,
            seed=self.search.seed,
            evaluations=self.search.sizes.evaluations,
            determined_by={**own, "search": self.search.model_dump(mode="json")},
        )

    def run_search(self, context: RopeSearchContext) -> Mapping[str, Any]:
        """Return the factors that the declared search finds, and their perplexity."""
        from ctxkit_rope.longrope_search import Search

        if self.search is None:
            raise ValueError("no search is declared")
        original, target = self.windows(context)
        return Search(
            original_max_position_embeddings=original,
            target_length=target,
            attention_factor=self.attention_factor,
            sizes=self.search.sizes,
            step=self.search.step,
            seed=self.search.seed,
        )(context)

    def rehearsed(self, config: Mapping[str, Any], original_max_position_embeddings: int) -> Mapping[str, Any]:
        """Return the lists in place of their file; those of position interpolation where they are not found yet.

        Raises:
            CtxkitError: the file is that of another target window, and none that a search will make anew.
        """
        target = self.window(original_max_position_embeddings)
        if self.search is None:
            self._check_made_for(target)
        if self.long_factor is not None and self._made_for in (None, target):
            short = None if self.short_factor is None else list(self.short_factor)
            return {"factors": None, "search": None, "long_factor": list(self.long_factor), "short_factor": short}
        pairs, scale = _pairs(config), self.scale(original_max_position_embeddings)
        lists = {"long_factor": [scale] * pairs, "short_factor": [1.0] * pairs}
        return {"factors": None, "search": None, **lists}

    def build(self, context: Context) -> RopeScaler:
        """Return the scaler for the window that the options and the original window give.

        Raises:
            CtxkitError: the factors are not found yet, or are those of another window; or the windows do not go
                together.
        """
        from ctxkit_rope.longrope import LongropeScaler

        if self.long_factor is None:
            said = f"{self.factors} does not exist yet"
            raise CtxkitError(said, "`ctxkit search-rope` makes it", exit_code=ExitCode.RECIPE)
        original, target = self.windows(context)
        self._check_made_for(target)
        return LongropeScaler(
            original_max_position_embeddings=original,
            target_length=target,
            long_factor=self.long_factor,
            short_factor=self.short_factor,
            attention_factor=self.attention_factor,
        )

    def _check_made_for(self, target: int) -> None:
        """Refuse factors of another window, which a `factor` alone does not show.

        Raises:
            CtxkitError: the file states another target window.
        """
        if self._made_for not in (None, target):
            said = f"the file of factors was made for a target_length of {self._made_for}, not {target}"
            raise CtxkitError(said, _ANEW, exit_code=ExitCode.RECIPE)


def _pairs(config: Mapping[str, Any]) -> int:
    """Return how many pairs of dimensions a head rotates, from the fields of a config.

    The part that is rotated stands in `rope_parameters` since transformers 5, which may hold those of each layer type;
    before, it stood beside them.
    """
    head_dim = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    parameters = config.get("rope_parameters") or {}
    parameters = parameters.get("full_attention") or parameters
    part = parameters.get("partial_rotary_factor") or config.get("partial_rotary_factor") or 1.0
    return int(head_dim * part) // 2


def _path(stated: str) -> Path:
    """Return the path that a recipe states.

    Raises:
        ValueError: it begins with the home of somebody who has none here.
    """
    try:
        return Path(stated).expanduser()
    except RuntimeError as error:
        raise ValueError(f"factors: {stated} cannot be found: {error} State the whole path") from error


def _read_json(path: str) -> dict[str, Any]:
    """Return the mapping that a JSON file holds.

    Raises:
        ValueError: it cannot be read, or holds something else; the message names the key of the recipe.
    """
    file = _path(path)
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"factors: {path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"factors: {path} is not JSON: {error}") from error
    if not isinstance(found, dict) or not found.get("long_factor"):
        raise ValueError(f"factors: {path} holds no long_factor")
    return found
