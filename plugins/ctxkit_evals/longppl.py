"""LongPPL: perplexity of the tokens that need far context.

Fang et al. 2024, "What is Wrong with Perplexity for Long-context Language Modeling?", by the formula of their code,
github.com/PKU-ML/LongPPL at commit 1decd2a.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from ctxkit.spec import EvalReport, Measurement, Sample
from ctxkit_evals.intervals import bootstrap_perplexity, described
from ctxkit_evals.likelihood import begin_ids, beyond_window, check_finite, token_losses
from ctxkit_evals.longppl_judge import Judge, KeyRule
from ctxkit_evals.perplexity_texts import Part, Stretch, all_asked, asked, long_documents, parts, stretches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from ctxkit.spec import Cells, Document
    from ctxkit.spec.cells import Work


@dataclass(frozen=True)
class Found:
    """What was measured of one text: losses summed in nats, and how many tokens that is."""

    text: Stretch
    key: float
    keys: int
    all: float
    tokens: int


@dataclass(frozen=True)
class LongPpl:
    """Measure exp of the mean loss over key tokens, and over all tokens of the same texts."""

    documents: Iterable[Document]
    lengths: Sequence[int]
    texts: int
    rule: KeyRule
    evaluator: str | None
    """The model that finds the key tokens, by name or path; the measured one itself where None."""
    seed: int
    cells: Callable[[str, Mapping[str, Work]], Cells]

    def __call__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> EvalReport:
        """Return `longppl` and `perplexity` for each length."""
        judge = Judge(self.rule, self.evaluator, model, tokenizer)
        begin = begin_ids(tokenizer)
        planned = list(self._parts(texts := self.chosen(tokenizer)))
        works = {part.name: partial(_measured, part, model, begin, judge) for part in planned}
        cells = self.cells("longppl", works)
        found = {
            length: [
                Found(text.cut(0, length - len(begin)), *values)
                for part in group
                for text, values in zip(part.texts, cells.found.get(part.name, ()), strict=False)
            ]
            for length, group in groupby(planned, lambda part: part.length)
        }
        metadata: dict[str, str | int | float] = {
            "seed": self.seed,
            "interval": described(documents := len({text.document_id for text in texts})),
            "documents": documents,
            "texts": all_asked(
                self._asked(text.cut(0, length - len(begin)), length, begin)
                for length in self.lengths
                for text in texts
            ),
            "sample_score": "mean nats a key token",
            "evaluator": self.evaluator or "the measured model itself",
            "short_context": self.rule.short,
            "alpha": self.rule.alpha,
            "beta": self.rule.beta,
            "key_tokens": ", ".join(_share(length, texts) for length, texts in found.items() if texts),
            "bos": "yes" if begin else "no",
            **beyond_window(model, self.lengths),
        }
        none = {f"{length} tokens": NO_KEYS for length, texts in found.items() if texts and not _keyed(texts)}
        return EvalReport(
            "longppl",
            tuple(item for length, texts in found.items() for item in self._measurements(length, texts)),
            tuple(self._sample(length, item, begin) for length, texts in found.items() for item in _keyed(texts)),
            metadata,
            {**cells.failed, **none},
        )

    def chosen(self, tokenizer: PreTrainedTokenizerBase) -> list[Stretch]:
        """Return the texts of the longest length without their begin token; a shorter length takes their front.

        Raises:
            DataError: no document is long enough.
        """
        tokens = max(self.lengths) - len(begin_ids(tokenizer))
        spelled = self.evaluator is not None and bool(getattr(tokenizer, "is_fast", False))
        found = long_documents("longppl", self.documents, tokenizer, tokens, self.texts, spelled=spelled)
        return stretches(found, tokens, self.texts, self.seed)

    def _parts(self, texts: Sequence[Stretch]) -> Iterator[Part]:
        for length in self.lengths:
            yield from parts(texts, length, self.rule.cost(length))

    def _measurements(self, length: int, texts: Sequence[Found]) -> Iterator[Measurement]:
        if keyed := _keyed(texts):
            yield self._measurement("longppl", length, keyed, [(item.key, item.keys) for item in keyed])
        if texts:
            yield self._measurement("perplexity", length, texts, [(item.all, item.tokens) for item in texts])

    def _measurement(
        self, metric: str, length: int, texts: Sequence[Found], pairs: Sequence[tuple[float, int]]
    ) -> Measurement:
        sums, counts = zip(*pairs, strict=True)
        interval = bootstrap_perplexity(sums, counts, [item.text.document_id for item in texts], self.seed)
        return Measurement(metric, length, float(np.exp(sum(sums) / sum(counts))), *interval, len(texts))

    def _sample(self, length: int, item: Found, begin: Sequence[int]) -> Sample:
        metadata: dict[str, str | int | float] = {
            "document": item.text.document_id,
            "end": item.text.end,
            "key_tokens": item.keys,
        }
        name = f"{item.text.id}:{self._asked(item.text, length, begin)}"
        return Sample(name, length, item.key / item.keys, metadata=metadata)

    def _asked(self, text: Stretch, length: int, begin: Sequence[int]) -> str:
        """Return what is asked of a text, without the key tokens: those are an outcome of the evaluator."""
        rule = self.rule
        return asked([*begin, *text.ids], length, rule.stride, rule.short, rule.alpha, rule.beta, self.evaluator)


NO_KEYS = "no key tokens: the evaluator finds no token much likelier with the whole text than with its end"


def _measured(part: Part, model: PreTrainedModel, begin: Sequence[int], judge: Judge) -> list[list[Any]]:
    """Return sum and count of key tokens, then of all, for each text."""
    found = []
    for whole in part.texts:
        text = whole.cut(0, part.length - len(begin))
        row = [*begin, *text.ids]
        losses = token_losses(model, [row], len(row) - 1)[0]
        check_finite(losses, text.id)
        keys = judge.keys(text, len(begin), losses)
        found.append([float(losses[keys - 1].sum()), len(keys), float(losses.sum()), len(losses)])
    return found


def _keyed(texts: Sequence[Found]) -> list[Found]:
    return [item for item in texts if item.keys]


def _share(length: int, texts: Sequence[Found]) -> str:
    return f"{sum(item.keys for item in texts)} of {sum(item.tokens for item in texts)} at {length}"
