"""What a person would want to be told about prepared data before training on it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from ctxkit.spec import BY_RULE
from ctxkit_report.flow import gaps
from ctxkit_report.notation import percent
from ctxkit_report.visible import label

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ctxkit_report.prepared import Prepared, Source, Split

_FULL = 0.9
"""Share of the room in packed rows below which packing is worth a look."""

_ENOUGH = 0.9
"""Share of `max_tokens` below which there is too little to train on."""


def findings(item: Prepared) -> tuple[str, ...]:
    """Return one sentence for each thing that is probably not meant, the gravest first."""
    return (
        *(f"{label(source.label)}: {said}" for source in item.sources for said in gaps(source)),
        *(f"{label(source.label)}: {said}" for source in item.sources for said in _losses(source)),
        *_mix(item),
        *_lengths(item),
        *_rows(item.train, packed=bool(item.packing)),
        *(said for source in item.sources for said in _forgeries(source)),
    )


def _losses(source: Source) -> Iterator[str]:
    if source.read == 0:
        yield "no token was read"
    dropped = sum(source.dropped.values())
    if source.read and dropped > source.read / 2:
        yield f"{percent(dropped, source.read)} of the tokens read were dropped, most as {_chief(source.dropped)}"
    every = Counter(source.skipped) + Counter(source.filtered)
    left = Counter({reason: count for reason, count in every.items() if not reason.startswith(BY_RULE)})
    by_rule = every.total() - left.total()
    total = max((source.documents_read or 0) - by_rule, (source.documents or 0) + left.total())
    if left.total() > total / 2:
        yield f"{percent(left.total(), total)} of the documents were never tokenised, most as {_chief(left)}"


def _chief(counts: Mapping[str, int]) -> str:
    """Return the reason that counts most, in quotes."""
    reason = max(counts, key=lambda key: counts[key])
    return f"\N{LEFT DOUBLE QUOTATION MARK}{label(reason)}\N{RIGHT DOUBLE QUOTATION MARK}"


def _mix(item: Prepared) -> Iterator[str]:
    together = item.mix[0] if item.mix else None
    if together and together.asked_tokens and together.tokens is not None:
        asked, tokens = together.asked_tokens, together.tokens
        if tokens < _ENOUGH * asked:
            why = f": {label(together.why, 300)}" if together.why else ""
            yield f"only {percent(tokens, asked)} of the {asked:,} tokens of max_tokens can be trained{why}"


def _lengths(item: Prepared) -> Iterator[str]:
    if item.train and item.train.longer_than.get(0.5) == 0:
        yield "no training row fills even half of the window: it trains nothing at long range"
    half = (item.window or 0) / 2
    if not half or len(item.sources) < 2 or not all(source.lengths for source in item.sources):
        return
    # A bin that only reaches into the long ones may hold none: it speaks for a source, never against it.
    long = [source for source in item.sources if any(each.most >= half for each in source.lengths)]
    if len(long) == 1:
        yield f"only {label(long[0].label)} has documents of half the window or more"


def _rows(train: Split | None, *, packed: bool) -> Iterator[str]:
    if train is None:
        return
    if train.rows == 0:
        yield "there is no row to train on"
    if packed and train.efficiency is not None and train.efficiency < _FULL:
        yield f"packed rows are only {percent(train.efficiency, 1)} full"
    if train.masked and train.tokens and train.masked > train.tokens / 2:
        yield f"{percent(train.masked, train.tokens)} of the tokens in training rows are masked: read, but not trained"


def _forgeries(source: Source) -> Iterator[str]:
    if source.special_token_texts:
        count = source.special_token_texts
        texts = "1 text that spells" if count == 1 else f"{count:,} texts that spell"
        yield f"{label(source.label)}: {texts} a special token, kept as plain text that cannot act as one"
