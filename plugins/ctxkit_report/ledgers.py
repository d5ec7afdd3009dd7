"""Turn the ledgers of prepared data into tables: what each source gave, and what was left out of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ctxkit_report.flow import documents_left_out, left_out
from ctxkit_report.notation import NONE, number, percent
from ctxkit_report.visible import label

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ctxkit_report.flow import Part
    from ctxkit_report.prepared import Prepared, Source


@dataclass(frozen=True)
class LedgerRow:
    """One source, written out: read = kept + left out; kept + added = trained + masked."""

    source: str
    documents: str
    """Tokenised ones."""
    read: str
    kept: str
    share: str
    """Kept, in percent of what was read."""
    added: str
    """Repeated and inserted."""
    trained: str
    masked: str
    left_out: tuple[tuple[str, str], ...]
    """Reason, and tokens or documents."""


@dataclass(frozen=True)
class Ledger:
    """One prepared data set, written out."""

    stages: str
    size: str
    rows: tuple[LedgerRow, ...]


@dataclass(frozen=True)
class ReasonRow:
    """Why something of a source was left out, and how much."""

    source: str
    reason: str
    tokens: str
    share: str
    """In percent of the tokens read."""
    documents: str


def ledgers(sets: Iterable[Prepared]) -> tuple[Ledger, ...]:
    """Write out every data set."""
    return tuple(
        Ledger(
            ", ".join(label(stage) for stage in item.stages) or "used by no stage",
            _size(item),
            tuple(_row(source) for source in item.sources),
        )
        for item in sets
    )


def reasons(item: Prepared) -> tuple[ReasonRow, ...]:
    """Write out everything that was left out of every source: documents before tokenising, then tokens."""
    return tuple(row for source in item.sources for row in (*_early(source), *_late(source)))


def _size(item: Prepared) -> str:
    if item.train is None:
        return ""
    parts = ((item.train.rows, "rows"), (item.train.chunks, "chunks"), (item.train.tokens, "tokens"))
    return ", ".join(f"{number(count)} {unit}" for count, unit in parts if count is not None)


def _row(source: Source) -> LedgerRow:
    known = [count for count in (source.repeated, source.inserted) if count is not None]
    return LedgerRow(
        source=label(source.label),
        documents=number(source.documents),
        read=number(source.read),
        kept=number(source.kept),
        share=percent(source.kept, source.read) if source.kept is not None and source.read else "",
        added=number(sum(known)) if known else NONE,
        trained=number(source.trained),
        masked=number(source.masked),
        left_out=(
            *((_brief(part), number(part.tokens)) for part in left_out(source)),
            *(
                (part.reason, f"{number(part.documents)} document{'s' if part.documents != 1 else ''}")
                for part in documents_left_out(source)
                if part.point != "dropped"  # their tokens stand above
            ),
        ),
    )


def _brief(part: Part) -> str:
    """Name what was left out without saying how, or explaining what its name says."""
    return part.name.removeprefix("dropped: ") if part.style == "dropped" else part.name.partition(":")[0]


def _early(source: Source) -> list[ReasonRow]:
    return [
        ReasonRow(label(source.label), f"{part.point}: {part.reason}", NONE, "", number(part.documents))
        for part in documents_left_out(source)
        if part.point != "dropped"
    ]


def _late(source: Source) -> list[ReasonRow]:
    documents = {f"dropped: {label(reason)}": count for reason, count in source.dropped_documents.items()}
    rows = [
        ReasonRow(
            label(source.label),
            part.name,
            number(part.tokens),
            percent(part.tokens, source.read or 0),
            number(documents.pop(part.name, None)),
        )
        for part in left_out(source)
    ]
    rows += [ReasonRow(label(source.label), name, NONE, "", number(count)) for name, count in documents.items()]
    return rows
