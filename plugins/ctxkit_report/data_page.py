"""Render the look at prepared data as one self-contained page."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ctxkit_report.data_terminal import overview
from ctxkit_report.findings import findings
from ctxkit_report.histogram import histogram
from ctxkit_report.ledgers import reasons
from ctxkit_report.lengths import histograms
from ctxkit_report.manifest import look
from ctxkit_report.mix import HEADS, mix_rows
from ctxkit_report.notation import NONE, number, percent
from ctxkit_report.paint import Paint, wants_colour, writable
from ctxkit_report.publish import fill, publish
from ctxkit_report.sankey import token_bars, token_flow
from ctxkit_report.sentences import claim, heading, setting, share_name
from ctxkit_report.stretches import place, placed, title
from ctxkit_report.visible import label, pieces

if TYPE_CHECKING:
    from pathlib import Path

    from ctxkit_report.manifest import Look
    from ctxkit_report.prepared import Prepared, Sample, Segment, Source, Split

_MOST_SAMPLES = 24
_MOST_SEGMENTS = 200
_MOST_CHARACTERS = 20_000
"""Of each of the two texts of a segment."""


@dataclass(frozen=True)
class Stretch:
    """A segment as the page shows it; the texts are pieces of plain text and of characters written out."""

    document: str
    """What stands above it, empty where its document goes on."""
    boundary: bool
    style: str
    hover: str
    text: tuple[tuple[str, str], ...]
    omitted: int
    tail: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Example:
    """A sample as the page shows it."""

    title: str
    stretches: tuple[Stretch, ...]
    hidden: int
    """Segments that are not shown."""


def show(run_dir: Path) -> str | None:
    """Write `data.html` and return the overview for the terminal; None where nothing is prepared and nothing broken.

    Raises DiskError where the page cannot be written.
    """
    found = look(run_dir)
    if not found.sets:
        lines = [f"No prepared data can be shown. Could not be read: {label(said, 300)}" for said in found.problems]
        return "\n".join(lines) or None
    target = run_dir / "data.html"
    publish(target, render(found))
    text = f"{overview(found, Paint(wants_colour()))}\n\npage:   {target}"
    return writable(text, getattr(sys.stdout, "encoding", None) or "utf-8")


def render(found: Look) -> str:
    """Return the page; nothing in it is fetched from elsewhere, and nothing of a document is obeyed."""
    return fill(
        "data.html.j2",
        name=label(found.name),
        problems=[label(said, 300) for said in found.problems],
        sets=[_set(item) for item in found.sets],
    )


def _set(item: Prepared) -> dict[str, object]:
    axis, lengths = histograms(item)
    splits = [(name, split) for name, split in (("train", item.train), ("eval", item.evaluation)) if split]
    return {
        "heading": heading(item),
        "setting": setting(item),
        "claim": claim(item),
        "findings": findings(item),
        "flows": [_flow(source) for source in item.sources],
        "reasons": reasons(item),
        "mix": mix_rows(item),
        "mix_heads": HEADS,
        "splits": [(name, _split_cells(split)) for name, split in splits],
        "has_eval": item.evaluation is not None,
        "lengths": [(each, histogram(each, axis, item.window)) for each in lengths],
        "shares": _shares(splits),
        "difficulty": _difficulty(splits),
        "split_names": [name for name, _ in splits],
        "examples": [example(sample) for sample in item.samples[:_MOST_SAMPLES]],
        "examples_hidden": max(len(item.samples) - _MOST_SAMPLES, 0),
    }


def example(sample: Sample) -> Example:
    """Turn a sample into what the page shows of it."""
    segments = placed(sample.segments)
    stretches = tuple(_stretch(segment, name) for segment, name in segments[:_MOST_SEGMENTS])
    return Example(title(sample), stretches, len(segments) - len(stretches))


def _stretch(segment: Segment, name: str) -> Stretch:
    styles = [name for name, wanted in (("inserted", segment.inserted), ("masked", segment.masked)) if wanted]
    loss = "masked: read, not trained" if segment.masked else "trained"
    where = "inserted by the chunker" if segment.inserted else place(segment, segment.end)
    tokens = f"; {segment.tokens:,} tokens" if segment.tokens is not None else ""
    return Stretch(
        document=name,
        boundary=segment.boundary,
        style=" ".join(styles) or "trained",
        hover=f"{where}{tokens}; {loss}",
        text=tuple(pieces(segment.text[:_MOST_CHARACTERS])),
        omitted=segment.omitted,
        tail=tuple(pieces(segment.tail[-_MOST_CHARACTERS:])),
    )


def _flow(source: Source) -> dict[str, object]:
    counts = (
        (source.documents_read, "documents read"),
        (source.documents, "tokenised"),
        (source.documents_cut, "cut"),
        (source.chunks, "chunks"),
    )
    return {
        "label": label(source.label),
        "facts": ", ".join(f"{number(count)} {unit}" for count, unit in counts if count is not None),
        "wide": token_flow(source),
        "narrow": token_bars(source),
    }


def _split_cells(split: Split) -> list[str]:
    counts = (split.rows, split.chunks, split.tokens, split.trained, split.masked, split.longest)
    return [*map(number, counts), NONE if split.efficiency is None else percent(split.efficiency, 1)]


def _shares(splits: list[tuple[str, Split]]) -> list[tuple[str, list[tuple[str, float]]]]:
    """Return, for each share of the window, how many rows hold it: written, and in percent for the bar."""
    known = sorted({share for _, split in splits for share in split.longer_than})
    return [(share_name(share), [_meter(split.longer_than.get(share), 1) for _, split in splits]) for share in known]


def _difficulty(splits: list[tuple[str, Split]]) -> list[tuple[str, list[tuple[str, float]]]]:
    levels = dict.fromkeys(level for _, split in splits for level in split.difficulty)
    return [
        (
            label(level).replace("_", " "),
            [_meter(split.difficulty.get(level, 0), sum(split.difficulty.values())) for _, split in splits],
        )
        for level in levels
    ]


def _meter(part: float | None, total: float) -> tuple[str, float]:
    if part is None:
        return NONE, 0.0
    written = percent(part, total)
    return (written if total == 1 else f"{part:,} ({written})"), 100 * part / total if total else 0.0
