"""The options of the source and of the eval."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from ctxkit.spec import Context, Document, Documents, EvalOptions, Samples, SourceOptions, SourceSlot, Tokens

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ctxkit_timeseries.forecast import Forecast

Range = Annotated[tuple[PositiveFloat, ...], Field(min_length=2, max_length=2)]
"""The least and the greatest."""
DRAWN = ("growth", "predation", "conversion", "death", "prey", "predator")
"""What a system is made of, in the order in which it is drawn."""


class LotkaVolterraOptions(SourceOptions):
    """Simulated populations of prey and predator as text, `prey,predator;` a step, after Lotka, Volterra and LLMTime.

    Rates and starts are drawn evenly from their ranges. One trajectory in ten is held out, by its index, so that the
    two splits of a seed share none, however many are made.
    """

    kind: Literal["lotka_volterra"]
    trajectories: Annotated[PositiveInt, Documents()] = 1000
    """How many to make, of the split."""
    split: Literal["train", "held_out"] = "train"
    """Which trajectories: those to train on, or those held out."""
    family_seed: int = Field(default=0, ge=0)
    """Draws the systems and the noise. It is not the seed of the training, so that runs of other seeds have the same
    data, and can be compared trajectory by trajectory."""
    points: int = Field(default=100, ge=2)
    """Steps of a trajectory."""
    interval: PositiveFloat = 0.25
    """Time between two steps; a cycle takes about 2 pi / sqrt(growth x death)."""
    substeps: PositiveInt = 10
    """Steps of the solver, Runge-Kutta of fourth order, between two."""
    noise: float = Field(default=0.0, ge=0)
    """Standard deviation of the logarithm of what is observed."""
    growth: Range = (0.7, 1.3)
    """Rate at which prey grows."""
    predation: Range = (0.7, 1.3)
    """Rate at which a predator takes prey."""
    conversion: Range = (0.7, 1.3)
    """Rate at which a prey feeds new predators."""
    death: Range = (0.7, 1.3)
    """Rate at which predators die."""
    prey: Range = (0.4, 2.0)
    """Prey at the start."""
    predator: Range = (0.4, 2.0)
    """Predators at the start."""
    precision: int = Field(default=2, ge=0, le=6)
    """Decimals, cut off; whoever reads them adds half of the last one's worth."""
    scale_quantile: float = Field(default=0.95, gt=0, le=1)
    """The quantile of each variable that becomes 1; LLMTime's alpha."""
    scale_offset: float | None = Field(default=None, ge=0)
    """Ranges of the variable between 0 and its least value, LLMTime's beta; unset, 0 stays 0."""
    scale_points: PositiveInt | None = None
    """Steps at the front that decide on the scale, half of them unless stated: a scale that knew those to be forecast
    would give them away."""
    spaced: bool = False
    """Put a blank before each digit, for tokenizers that join digits; those of Qwen and of bytes do not."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        for name in DRAWN:
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"needs {name} as [least, greatest]")
        if self.scale_points and self.scale_points > self.points:
            raise ValueError(f"needs scale_points of at most points, {self.points}")
        return self

    def uses_seed(self) -> bool:
        """Return that the seed of the recipe changes nothing."""
        return False

    def build(self, context: Context) -> Iterable[Document]:
        """Return documents that are the same for the same options."""
        from ctxkit_timeseries.source import Observation, Ranges, Trajectories, Writing

        return Trajectories(
            self.trajectories,
            held_out=self.split == "held_out",
            seed=self.family_seed,
            ranges=Ranges(**{name: getattr(self, name) for name in DRAWN}),
            observation=Observation(self.points, self.interval, self.substeps, self.noise),
            writing=Writing(
                self.precision,
                self.scale_quantile,
                self.scale_offset,
                self.scale_points or max(self.points // 2, 1),
                self.spaced,
            ),
        )


class ForecastOptions(EvalOptions):
    """Mean absolute error of forecasts of series, by how many tokens of history the model reads."""

    in_cells: ClassVar[bool] = True

    kind: Literal["forecast"]
    source: SourceSlot
    """Held-out series: documents of steps such as `0.25,1.50;`; keep them out of every training source."""
    lengths: tuple[Annotated[int, Field(ge=8), Tokens(least=32)], ...] = Field(min_length=1)
    """Tokens of history, in whole steps: the last ones before the forecast, which comes on top. Every length forecasts
    the same steps."""
    horizon: PositiveInt = 20
    """Steps to forecast: the last ones of each series."""
    trajectories: Annotated[PositiveInt, Samples(least=2)] = 50
    """Series to forecast: the first ones whose history fills the longest length."""
    batch_size: PositiveInt = 16
    """Series forecast at once."""

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if len(set(self.lengths)) < len(self.lengths):
            raise ValueError("a length is stated twice in lengths")
        return self

    def check(self, context: Context) -> None:
        """Read the series: there must be enough of them, and they must be long enough."""
        if context.tokenizer is not None:
            for series in self.build(context).chosen(context.tokenizer):
                series.case(min(self.lengths))

    def build(self, context: Context) -> Forecast:
        """Return the measurement."""
        from ctxkit_timeseries.forecast import Forecast

        return Forecast(
            documents=self.source.build(context),
            horizon=self.horizon,
            lengths=self.lengths,
            trajectories=self.trajectories,
            batch_size=self.batch_size,
            seed=context.seed,
            cells=context.cells,
        )
