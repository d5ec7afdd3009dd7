"""Follow the tokens of a source: what was read, left out, kept, added, and what is trained of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ctxkit_report.visible import label

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ctxkit_report.prepared import Source


@dataclass(frozen=True)
class Part:
    """A share of the tokens; `style` names the class that colours it."""

    name: str
    tokens: int
    style: str


@dataclass(frozen=True)
class LeftOut:
    """Documents that no example holds: at which point, why, how many."""

    point: str
    reason: str
    documents: int


def left_out(source: Source) -> tuple[Part, ...]:
    """Return what was read and not kept: dropped by reason, the most first, then evaluation and unused."""
    dropped = [Part(f"dropped: {label(reason)}", count, "dropped") for reason, count in _most(source.dropped)]
    rest = [
        Part("set aside for evaluation", source.evaluation or 0, "aside"),
        Part("unused: cut off by max_tokens or the mix", source.unused or 0, "unused"),
    ]
    return tuple(part for part in (*dropped, *rest) if part.tokens)


def added(source: Source) -> tuple[Part, ...]:
    """Return what the examples hold beside the tokens kept."""
    parts = (
        Part("repeated: a second time in another example", source.repeated or 0, "repeated"),
        Part("inserted by the chunker", source.inserted or 0, "inserted"),
    )
    return tuple(part for part in parts if part.tokens)


def outcome(source: Source) -> tuple[Part, ...]:
    """Return what becomes of the tokens in the examples."""
    parts = (
        Part("trained", source.trained or 0, "trained"),
        Part("masked: context only", source.masked or 0, "masked"),
    )
    return tuple(part for part in parts if part.tokens)


def in_examples(source: Source) -> int | None:
    """Return the tokens in the examples of a source: trained and masked."""
    return _total((source.trained, source.masked))


def documents_left_out(source: Source) -> tuple[LeftOut, ...]:
    """Return every reason for which documents were left out, point by point, the most first."""
    points = (
        ("skipped by the source", source.skipped),
        ("filtered", source.filtered),
        ("dropped", source.dropped_documents),
    )
    return tuple(
        LeftOut(point, label(reason), count) for point, counts in points for reason, count in _most(counts) if count
    )


def merged(parts: Sequence[Part], most: int) -> tuple[Part, ...]:
    """Return at most so many parts: the smallest dropped ones stand together where there are more."""
    if len(parts) <= most:
        return tuple(parts)
    dropped = [part for part in parts if part.style == "dropped"]
    others = [part for part in parts if part.style != "dropped"]
    shown = max(most - len(others) - 1, 0)
    rest = dropped[shown:]
    together = Part(f"dropped: {len(rest)} more reasons", sum(part.tokens for part in rest), "dropped")
    return (*dropped[:shown], together, *others)


def gaps(source: Source) -> tuple[str, ...]:
    """Return a sentence for each identity of the ledger that does not hold."""
    kept = (source.kept, source.unused, source.evaluation)
    used = (source.kept, source.repeated, source.inserted)
    said = (
        _gap("read", source.read, _total(kept, sum(source.dropped.values())), "kept or left out"),
        _gap("in examples", in_examples(source), _total(used), "kept, repeated or inserted"),
    )
    return tuple(sentence for sentence in said if sentence)


def _gap(what: str, found: int | None, expected: int | None, how: str) -> str:
    if found is None or expected is None or found == expected:
        return ""
    return f"the ledger does not add up: {found:,} tokens {what}, {expected:,} {how}"


def _total(counts: Sequence[int | None], more: int = 0) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) + more if len(known) == len(counts) else None


def _most(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))
