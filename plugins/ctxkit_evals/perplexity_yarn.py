"""The perplexity of YaRN's published script, for comparison with published tables.

What it does is that of `eval/perplexity.py` in github.com/jquesnelle/yarn at commit 995db5b: windows slide from the
front, so that the last one is shorter; a begin token stands before each where the tokenizer has one at all; and the
means of all windows are averaged with equal weights, though the first scores many more tokens than the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from ctxkit.spec import Cells, Document, EvalReport, Measurement, Sample
from ctxkit_evals.intervals import bootstrap_perplexity, described
from ctxkit_evals.likelihood import beyond_window, check_finite, token_losses
from ctxkit_evals.perplexity_texts import Part, Stretch, Window, all_asked, asked, long_documents

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from ctxkit.spec.cells import Work


@dataclass(frozen=True)
class YarnPerplexity:
    """Measure exp of the unweighted mean of window means over whole documents, each cell one document at one length."""

    documents: Iterable[Document]
    lengths: Sequence[int]
    texts: int
    """The first documents with as many tokens as the longest length."""
    stride: int
    batch_size: int
    seed: int
    cells: Callable[[str, Mapping[str, Work]], Cells]
    truncate: bool
    """Whether each document is cut to the length, and is one window."""

    def __call__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> EvalReport:
        """Return `perplexity_yarn` for each length."""
        texts = self.chosen(tokenizer)
        begin = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
        planned = [Part(length, [text], number + 1) for length in self.lengths for number, text in enumerate(texts)]
        cells = self.cells("perplexity", {part.name: partial(self._means, model, part, begin) for part in planned})
        found: dict[int, list[tuple[Stretch, list[float]]]] = {}
        for part in planned:
            if part.name in cells.found:
                found.setdefault(part.length, []).append((part.texts[0], cells.found[part.name]))
        metadata: dict[str, str | int | float] = {
            "seed": self.seed,
            "interval": described(len(texts)),
            "documents": len(texts),
            "texts": all_asked(self._asked(text, length, begin) for length in self.lengths for text in texts),
            "sample_score": "mean of window means, nats a token",
            "reference": f"YaRN's script, {'truncated' if self.truncate else f'sliding_window {self.stride}'}",
            "bos": "yes" if begin else "no",
            **beyond_window(model, self.lengths),
        }
        measurements = tuple(self._measured(length, pairs) for length, pairs in found.items())
        samples = tuple(
            Sample(
                f"{text.id}:{self._asked(text, length, begin)}",
                length,
                float(np.mean(means)),
                metadata={"document": text.document_id},
            )
            for length, pairs in found.items()
            for text, means in pairs
        )
        return EvalReport("perplexity", measurements, samples, metadata, cells.failed)

    def chosen(self, tokenizer: PreTrainedTokenizerBase) -> list[Stretch]:
        """Return the documents.

        Raises:
            DataError: none is long enough.
        """
        return long_documents("perplexity", self.documents, tokenizer, max(self.lengths), self.texts)

    def _means(self, model: PreTrainedModel, part: Part, begin: list[int]) -> list[float]:
        """Return the mean loss of each window of a document, in nats."""
        text, room = part.texts[0], part.length - len(begin)
        total = min(room, len(text.ids)) if self.truncate else len(text.ids)
        means = []
        for window in yarn_windows(total, room, self.stride):
            row = [*begin, *text.ids[window.start : window.end]]
            losses = token_losses(model, [row], min(window.scored, len(row) - 1))[0]
            check_finite(losses, f"the window at {window.start} of {text.document_id}")
            means.append(float(losses.mean()))
        return means

    def _asked(self, text: Stretch, length: int, begin: Sequence[int]) -> str:
        return asked([*begin, *text.ids], length, "truncated" if self.truncate else self.stride, "YaRN")

    def _measured(self, length: int, pairs: Sequence[tuple[Stretch, list[float]]]) -> Measurement:
        sums, counts = ([fold(means) for _, means in pairs] for fold in (sum, len))
        interval = bootstrap_perplexity(sums, counts, [text.document_id for text, _ in pairs], self.seed)
        return Measurement("perplexity_yarn", length, float(np.exp(sum(sums) / sum(counts))), *interval, len(pairs))


def yarn_windows(total: int, room: int, stride: int) -> Iterator[Window]:
    """Yield windows of `room` tokens from the front on, each scoring what the one before it had not reached."""
    before = 0
    for start in range(0, total, stride):
        end = min(start + room, total)
        yield Window(start, end, end - before)
        before = end
        if end == total:
            return
