"""Perplexity by context length: windows that slide over the same texts, so that every length scores the same tokens."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from ctxkit.spec import Cells, Document, EvalReport, Measurement, Sample
from ctxkit_evals.intervals import bootstrap_perplexity, described
from ctxkit_evals.likelihood import begin_ids, beyond_window, check_finite, token_losses
from ctxkit_evals.perplexity_texts import (
    Part,
    Stretch,
    Window,
    all_asked,
    asked,
    buckets,
    long_documents,
    parts,
    stretches,
    stride_at,
    windows,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from ctxkit.spec.cells import Work

TAIL = 4
"""The tail is the last 1/4 of a text."""

Sums: TypeAlias = list[list[float]]
"""Of each text, the losses summed over each of its `_spans`, in nats."""


@dataclass(frozen=True)
class Perplexity:
    """Measure exp of the mean negative log-likelihood a token, token-weighted, with a bootstrap interval.

    A text has as many tokens as the longest window, a begin token included where the tokenizer itself sets one; then
    every window begins with it.
    """

    documents: Iterable[Document]
    lengths: Sequence[int]
    texts: int
    stride: int
    batch_size: int
    """Windows of the longest length that are computed at once; of shorter ones as many tokens."""
    seed: int
    cells: Callable[[str, Mapping[str, Work]], Cells]

    def __call__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> EvalReport:
        """Return perplexity of whole texts and of their last quarters by length, and by position at the longest."""
        texts, begin = self.chosen(tokenizer), begin_ids(tokenizer)
        planned = list(self._parts(texts))
        cells = self.cells("perplexity", {part.name: partial(self._sums, model, part, begin) for part in planned})
        measurements: list[Measurement] = []
        samples: list[Sample] = []
        for length, group in groupby(planned, lambda part: part.length):
            measured = [part for part in group if part.name in cells.found]
            named = [text for part in measured for text in part.texts]
            sums = np.array([row for part in measured for row in cells.found[part.name]])
            measurements += self._measured(length, named, sums) if named else ()
            samples += self._samples(length, named, sums, begin)
        metadata: dict[str, str | int | float] = {
            "seed": self.seed,
            "interval": described(documents := len({text.document_id for text in texts})),
            "documents": documents,
            "texts": all_asked(self._asked(text, length, begin) for length in self.lengths for text in texts),
            "sample_score": "mean nats a token",
            "stride": ", ".join(f"{stride_at(length, self.stride)} at {length}" for length in self.lengths),
            "bos": "yes" if begin else "no",
            **beyond_window(model, self.lengths),
        }
        return EvalReport("perplexity", tuple(measurements), tuple(samples), metadata, cells.failed)

    def chosen(self, tokenizer: PreTrainedTokenizerBase) -> list[Stretch]:
        """Return the texts, without their begin token.

        Raises:
            DataError: no document is long enough.
        """
        tokens = self._longest - len(begin_ids(tokenizer))
        found = long_documents("perplexity", self.documents, tokenizer, tokens, self.texts)
        return stretches(found, tokens, self.texts, self.seed)

    @property
    def _longest(self) -> int:
        return max(self.lengths)

    @property
    def _spans(self) -> list[tuple[int, int]]:
        """The positions of a text that are summed up, first and end: all, the tail, and the buckets."""
        total = self._longest
        return [(1, total), (total - total // TAIL, total), *buckets(total)]

    def _windows(self, length: int) -> list[Window]:
        return windows(self._longest, length, stride_at(length, self.stride))

    def _parts(self, texts: Sequence[Stretch]) -> Iterator[Part]:
        for length in self.lengths:
            yield from parts(texts, length, len(self._windows(length)) * length)

    def _sums(self, model: PreTrainedModel, part: Part, begin: Sequence[int]) -> Sums:
        rows = [text.ids for text in part.texts]
        losses = sliding_losses(model, rows, self._windows(part.length), begin, self.batch_size * self._longest)
        for text, row in zip(part.texts, losses, strict=True):
            check_finite(row, text.id)
        return [[float(row[first - 1 : end - 1].sum()) for first, end in self._spans] for row in losses]

    def _measured(self, length: int, texts: Sequence[Stretch], sums: NDArray[np.float64]) -> Iterator[Measurement]:
        documents = [text.document_id for text in texts]
        by_position = ["perplexity_by_position"] * (len(self._spans) - 2 if length == self._longest else 0)
        for metric, (first, end), column in zip(
            ["perplexity", "perplexity_tail", *by_position], self._spans, sums.T, strict=False
        ):
            interval = bootstrap_perplexity(column, end - first, documents, self.seed)
            value = float(np.exp(column.mean() / (end - first)))
            positions = (first, end) if metric == "perplexity_by_position" else None
            yield Measurement(metric, length, value, *interval, len(texts), positions=positions)

    def _samples(
        self, length: int, texts: Sequence[Stretch], sums: NDArray[np.float64], begin: Sequence[int]
    ) -> Iterator[Sample]:
        for text, row in zip(texts, sums, strict=True):
            score = float(row[0]) / (self._longest - 1)
            name = f"{text.id}:{self._asked(text, length, begin)}"
            yield Sample(name, length, score, metadata={"document": text.document_id, "end": text.end})

    def _asked(self, text: Stretch, length: int, begin: Sequence[int]) -> str:
        return asked([*begin, *text.ids], length, stride_at(length, self.stride))


def sliding_losses(
    model: PreTrainedModel,
    texts: Sequence[list[int]],
    sliding: Sequence[Window],
    begin: Sequence[int],
    batch_tokens: int,
) -> NDArray[np.float64]:
    """Return the loss of every token but the first of texts of equal length, in nats, shape (texts, tokens - 1).

    `begin`, if not empty, is the begin token: it stands before each text, and is the first token of each window.
    `batch_tokens` are computed at once.
    """
    total = len(begin) + len(texts[0])
    losses = np.full((len(texts), total - 1), np.nan)
    pairs = [(window, number) for window in sliding for number in range(len(texts))]
    for (length, scored), group in groupby(pairs, lambda pair: (pair[0].end - pair[0].start, pair[0].scored)):
        same, step = list(group), max(1, batch_tokens // length)
        for batch in (same[start : start + step] for start in range(0, len(same), step)):
            # A text stands after its begin token, so a window's first place is the begin token's.
            rows = [[*begin, *texts[number][window.start : window.end - len(begin)]] for window, number in batch]
            for (window, number), found in zip(batch, token_losses(model, rows, scored), strict=True):
                losses[number, window.end - 1 - scored : window.end - 1] = found
    return losses
