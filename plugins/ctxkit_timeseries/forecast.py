"""How far off a model's forecast of a series is, by how much of the history it is shown.

The model reads the last steps before the end of a series as text and writes those that follow, by greedy decoding. It
is judged on the tokens it wrote. All lengths forecast the same steps of the same series, so that they are compared
pair by pair; so are the baselines, which see what the model sees.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ctxkit.errors import DataError
from ctxkit.spec import Cells, Document, EvalReport, Measurement, Sample
from ctxkit.spec.intervals import bootstrap_mean, wilson
from ctxkit_timeseries.baselines import last_cycle, persistence
from ctxkit_timeseries.encoding import STEPS
from ctxkit_timeseries.greedy import generated
from ctxkit_timeseries.series import Case, Series, Text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

BASELINES = {"persistence": persistence, "last_cycle": last_cycle}
ROOM = 1.2
"""Tokens that a model may write, over those of as many of the longest steps; LLMTime has the same."""


@dataclass(frozen=True)
class Scored:
    """What the forecasts of one length came to."""

    length: int
    errors: NDArray[np.float64]
    """Mean absolute error, shape (series, variables)."""
    baselines: dict[str, NDArray[np.float64]]
    """That of each baseline, shape (series,)."""
    complete: NDArray[np.bool_]
    """Whether a forecast has all steps, shape (series,)."""
    texts: Sequence[str]
    """What was written."""

    @property
    def maes(self) -> NDArray[np.float64]:
        """Over all variables, shape (series,)."""
        mean: NDArray[np.float64] = self.errors.mean(axis=1)
        return mean


@dataclass(frozen=True)
class Forecast:
    """Measure the mean absolute error of forecasts, with a bootstrap interval over series."""

    documents: Iterable[Document]
    horizon: int
    lengths: Sequence[int]
    trajectories: int
    batch_size: int
    seed: int
    cells: Callable[[str, Mapping[str, Callable[[], Any]]], Cells]

    def __call__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> EvalReport:
        """Return error, failures, baselines and gains for each length."""
        chosen = self.chosen(tokenizer)
        cases = {length: [series.case(length) for series in chosen] for length in self.lengths}
        done = self.cells("forecast", self._cells(model, chosen[0].text, cases))
        texts = {length: self._texts(length, done) for length in self.lengths}
        scored = [self._scored(length, cases[length], written) for length, written in texts.items() if written]
        samples = tuple(sample for one in scored for sample in _samples(chosen, one))
        measured = tuple(self._measured(scored, chosen[0].names)) if scored else ()
        return EvalReport("forecast", measured, samples, self._about(), done.failed)

    def _cells(
        self, model: PreTrainedModel, text: Text, cases: Mapping[int, list[Case]]
    ) -> dict[str, Callable[[], list[str]]]:
        """Return a cell for each batch of each length: what the model writes."""
        return {
            f"{length}/{start}": partial(self._written, model, text, cases[length][start : start + self.batch_size])
            for length in self.lengths
            for start in range(0, len(cases[length]), self.batch_size)
        }

    def _texts(self, length: int, done: Cells) -> list[str]:
        """Return what was written at one length; nothing where a cell of it failed."""
        of_length = f"{length}/"
        if any(name.startswith(of_length) for name in done.failed):
            return []
        return [text for name, texts in done.found.items() if name.startswith(of_length) for text in texts]

    def chosen(self, tokenizer: PreTrainedTokenizerBase) -> list[Series]:
        """Return the first series whose history fills the longest length.

        Raises:
            DataError: a document is no series, its scale knows what is asked for, one is unlike the first, or there
                are too few.
        """
        text, found, read = Text(tokenizer), [], 0
        for document in self.documents:
            series, read = Series.of(document, text, self.horizon), read + 1
            if series.history_tokens >= max(self.lengths):
                found.append(series)
                series.check_like(found[0])
            if len(found) == self.trajectories:
                return found
        raise DataError(
            f"forecast: of {read} series, {len(found)} have {max(self.lengths)} tokens before their last "
            f"{self.horizon} steps, and {self.trajectories} are needed",
            "make more series or longer ones, shorten `lengths`, or ask for fewer `trajectories`",
        )

    def _written(self, model: PreTrainedModel, text: Text, cases: Sequence[Case]) -> list[str]:
        most = int(ROOM * self.horizon * max(case.longest_step for case in cases))
        rows = generated(model, [case.prompt for case in cases], most, lambda row: text.ended(row, self.horizon))
        return [text.of(row) for row in rows]

    def _scored(self, length: int, cases: Sequence[Case], texts: Sequence[str]) -> Scored:
        forecasts = [case.form.read(text)[: self.horizon] for text, case in zip(texts, cases, strict=True)]
        errors = np.stack([case.error(values) for case, values in zip(cases, forecasts, strict=True)])
        baselines = {
            name: np.array([case.error(method(case.history, self.horizon)).mean() for case in cases])
            for name, method in BASELINES.items()
        }
        complete = np.array([len(values) >= self.horizon for values in forecasts])
        return Scored(length, errors, baselines, complete, texts)

    def _measured(self, scored: Sequence[Scored], names: Sequence[str]) -> Iterator[Measurement]:
        shortest = min(scored, key=lambda one: one.length)
        for one in scored:
            count = len(one.errors)
            yield self._mean("mae", one.length, one.maes)
            for place, name in enumerate(names):
                yield self._mean(f"mae_{name}", one.length, one.errors[:, place])
            whole = int(one.complete.sum())
            yield Measurement("success_rate", one.length, whole / count, *wilson(whole, count), count)
            if whole:
                yield self._mean("mae_of_complete", one.length, one.maes[one.complete])
            for name, maes in one.baselines.items():
                yield self._mean(f"{name}_mae", one.length, maes)
                yield self._mean(f"gain_over_{name}", one.length, maes - one.maes)
            if one is not shortest:
                yield self._mean(f"gain_over_{shortest.length}_tokens", one.length, shortest.maes - one.maes)

    def _mean(self, metric: str, length: int, values: NDArray[np.float64]) -> Measurement:
        return Measurement(metric, length, float(values.mean()), *bootstrap_mean(values, self.seed), len(values))

    def _about(self) -> dict[str, str | int | float]:
        return {
            "seed": self.seed,
            "interval": "95 %: bootstrap over series, of the differences in gains; Wilson for failures",
            "horizon": f"{self.horizon} steps",
            "judged": "greedy, generated tokens",
            "unit": "that of the text, in which each variable is scaled",
            "missing_steps": "each as far off as the variable ranged before; mae_of_complete leaves such forecasts out",
            "sample_score": f"mean absolute error; steps end with {STEPS}",
        }


def _samples(chosen: Sequence[Series], one: Scored) -> Iterator[Sample]:
    """Yield each series with its error, what comes next in it, and what was written."""
    for series, mae, text in zip(chosen, one.maes, one.texts, strict=True):
        yield Sample(series.id, one.length, float(mae), target="".join(series.steps[series.known :]), output=text)
