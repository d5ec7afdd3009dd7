"""Show prepared data as text for a terminal: the ledger of every source, lengths, and examples."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ctxkit_report.excerpt import LEGEND, excerpt, pick
from ctxkit_report.findings import findings
from ctxkit_report.flow import added, documents_left_out, in_examples, left_out, outcome
from ctxkit_report.lengths import histograms, pooled
from ctxkit_report.mix import HEADS, mix_rows
from ctxkit_report.notation import NONE, SPACE, number, percent
from ctxkit_report.paint import bar
from ctxkit_report.sentences import claim, heading, setting, share_name
from ctxkit_report.stretches import title
from ctxkit_report.visible import fit, fold, label, pad, width

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ctxkit_report.lengths import Column, Histogram
    from ctxkit_report.manifest import Look
    from ctxkit_report.paint import Paint
    from ctxkit_report.prepared import Prepared, Source, Split

_WIDTH = 100
_NAME, _COUNT, _SHARE, _BAR = 52, 16, 9, 14
"""Columns of a ledger; with its margins 98."""
_PART, _MIX = 40, (16, 9, 16, 9)
"""Columns of the mix."""
_EXAMPLES = 2


def overview(look: Look, paint: Paint) -> str:
    """Return all data sets of a run directory in lines of at most 100 columns."""
    lines = [paint(f"Prepared data of {label(look.name, 60)}", "strong")]
    for item in look.sets:
        lines += ["", *_set(item, paint)]
    for problem in look.problems:
        lines += ["", *_wrapped(f"Could not be read: {label(problem, 300)}")]
    return "\n".join(line.replace(SPACE, " ").rstrip() for line in lines)


def _set(item: Prepared, paint: Paint) -> Iterator[str]:
    yield from (paint(line, "strong") for line in _wrapped(f"{heading(item)}: {claim(item)}"))
    yield from (f"  {line}" for line in _wrapped(setting(item), _WIDTH - 2))
    found = findings(item)
    if found:
        yield ""
    for said in found:
        yield from (paint(f"  {line}", "warning") for line in _wrapped(f"! {said}", _WIDTH - 2))
    for source in item.sources:
        yield ""
        yield from _source(source, paint)
    yield from _mix(item, paint)
    yield from _splits(item, paint)
    yield from _lengths(item, paint)
    yield from _examples(item, paint)


def _source(source: Source, paint: Paint) -> Iterator[str]:
    """Yield the ledger: what is read, less what is left out, plus what is added, is what the chunks hold."""
    yield paint(f"  {pad(label(source.label, 40), _NAME + 2)}{'tokens':>{_COUNT}}{'of read':>{_SHARE}}", "strong")
    total = source.read or 0
    yield _row("  read", source.read, total, paint)
    for part in left_out(source):
        yield _row(f"- {part.name}", part.tokens, total, paint)
    yield _row("= kept", source.kept, total, paint)
    for part in added(source):
        yield _row(f"+ {part.name}", part.tokens, total, paint)
    chunks = "1 chunk" if source.chunks == 1 else f"{number(source.chunks)} chunks"
    yield _row(f"= in {chunks}", in_examples(source), total, paint)
    for part in outcome(source):
        yield _row(f"  of these {part.name}", part.tokens, total, paint)
    yield from _documents(source, paint)


def _documents(source: Source, paint: Paint) -> Iterator[str]:
    yield paint(f"    {pad('', _NAME)}{'documents':>{_COUNT}}", "dim")
    yield _row("  read", source.documents_read)
    parts = documents_left_out(source)
    early = [part for part in parts if part.point != "dropped"]
    for part in early:
        yield _row(f"- {part.point}: {part.reason}", part.documents)
    yield _row("= tokenised", source.documents)
    for part in parts[len(early) :]:
        yield _row(f"- {part.point}: {part.reason}", part.documents)
    yield _row("  of these cut", source.documents_cut)


def _row(name: str, count: int | None, total: int = 0, paint: Paint | None = None) -> str:
    """Return a row of a ledger; a name too long for its column begins on lines of its own."""
    *before, last = fold(name, _NAME - 2)
    if before and width(last) > _NAME - 4:
        before, last = [*before, last], ""
    above = "".join(f"    {part.rstrip()}\n" for part in before)
    line = f"{above}    {pad(f'  {last}' if before else last, _NAME)}{pad(number(count), _COUNT, right=True)}"
    if count is None or paint is None or total <= 0:
        return line
    # With overlap the chunks hold more than was read: the bar ends with an arrow.
    drawn = bar(count / total, _BAR) + ("▶" if count > total else "")
    return f"{line}{percent(count, total):>{_SHARE}}  {paint(drawn, 'bar')}"


def _mix(item: Prepared, paint: Paint) -> Iterator[str]:
    """Yield what was asked of each part beside what is trained, and beneath it why they differ."""
    rows = mix_rows(item)
    if rows:
        yield ""
        yield paint(f"  {pad('part of the mix, in tokens', _PART)}{_cells(HEADS)}", "strong")
    for row in rows:
        yield f"  {pad(fit(row.name, _PART), _PART)}{_cells(row.cells)}"
        if row.why:
            yield from (paint(f"    {line}", "dim") for line in _wrapped(row.why, _WIDTH - 4))


def _cells(cells: Sequence[str]) -> str:
    return "".join(pad(cell, size, right=True) for cell, size in zip(cells, _MIX, strict=True))


def _splits(item: Prepared, paint: Paint) -> Iterator[str]:
    named = [(name, split) for name, split in (("train", item.train), ("eval", item.evaluation)) if split]
    if not named:
        return
    heads = ("rows", "chunks", "tokens", "trained", "masked", "longest", "full")
    widths = (11, 11, 17, 17, 17, 10, 9)
    yield ""
    columns = "".join(f"{head:>{size}}" for head, size in zip(heads, widths, strict=True))
    yield paint(f"  {'':5}{columns}", "strong")
    for name, split in named:
        counts = (split.rows, split.chunks, split.tokens, split.trained, split.masked, split.longest)
        full = NONE if split.efficiency is None else percent(split.efficiency, 1)
        cells = (*map(number, counts), full)
        yield f"  {name:5}" + "".join(pad(cell, size, right=True) for cell, size in zip(cells, widths, strict=True))
    if item.evaluation is None:
        yield paint("  eval   none is set aside", "dim")
    yield from _shares(named, paint)
    yield from _difficulty(named, paint)


def _shares(named: Sequence[tuple[str, Split]], paint: Paint) -> Iterator[str]:
    shares = sorted({share for _, split in named for share in split.longer_than})
    if shares:
        yield from _compared("rows that hold at least", [name for name, _ in named], paint)
    for share in shares:
        found = [split.longer_than.get(share) for _, split in named]
        cells = [("", None) if part is None else (percent(part, 1), part) for part in found]
        yield f"    {pad(share_name(share), 24)}{_bars(cells, paint)}"


def _difficulty(named: Sequence[tuple[str, Split]], paint: Paint) -> Iterator[str]:
    levels = dict.fromkeys(level for _, split in named for level in split.difficulty)
    if levels:
        yield from _compared("difficulty", [name for name, _ in named], paint)
    for level in levels:
        cells: list[tuple[str, float | None]] = []
        for _, split in named:
            count, total = split.difficulty.get(level, 0), sum(split.difficulty.values())
            cells.append((number(count), count / total if total else 0.0))
        yield f"    {pad(label(level).replace('_', ' '), 24)}{_bars(cells, paint)}"


def _compared(name: str, columns: Sequence[str], paint: Paint) -> Iterator[str]:
    yield ""
    heads = "".join(f"{column:>12}{'':23}" for column in columns)
    yield paint(f"  {pad(name, 26)}{heads}".rstrip(), "strong")


def _bars(cells: Iterable[tuple[str, float | None]], paint: Paint) -> str:
    parts = []
    for text, share in cells:
        drawn = bar(share or 0.0, 20)
        parts.append(f"{pad(text, 12, right=True)}  {paint(drawn, 'bar')}{' ' * (21 - len(drawn))}")
    return "".join(parts)


def _lengths(item: Prepared, paint: Paint) -> Iterator[str]:
    """Yield documents and rows by length: how many, and their share of the tokens as a bar."""
    axis, found = histograms(item)
    units = [unit for unit in ("documents", "rows") if any(each.unit == unit for each in found)]
    if not units:
        return
    tables = [pooled(found, unit, unit) for unit in units]
    yield ""
    heads = "".join(f"{unit:>12}  {'share of tokens':21}" for unit in units)
    yield paint(f"  {'length in tokens':>26}{heads}".rstrip(), "strong")
    for place in range(axis.count):
        cells = [_cell(table, table.columns[place]) for table in tables]
        yield f"  {axis.range(place):>26}{_bars(cells, paint)}"


def _cell(table: Histogram, column: Column) -> tuple[str, float]:
    total = table.total.tokens
    return number(column.count), column.tokens / total if total else 0.0


def _examples(item: Prepared, paint: Paint) -> Iterator[str]:
    chosen = pick(item.samples, _EXAMPLES)
    if chosen:
        yield ""
        yield f"  {LEGEND}"
    for sample in chosen:
        yield ""
        said = f"Example {item.samples.index(sample) + 1} of {len(item.samples)}: {title(sample)}"
        yield from (paint(f"  {line}", "strong") for line in _wrapped(said, _WIDTH - 2))
        yield from (f"  {line}" for line in excerpt(sample, paint))


def _wrapped(sentence: str, columns: int = _WIDTH) -> list[str]:
    """Fold a sentence, indenting what does not fit its first line."""
    if width(sentence) <= columns:
        return [sentence]
    first, *rest = fold(sentence, columns - 2)
    return [first, *(f"  {part}" for line in rest for part in fold(line, columns - 2))]
