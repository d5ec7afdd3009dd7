"""Show an example in a terminal: where documents begin, what is masked, what was inserted.

Every line begins with two marks, so that nothing depends on colour.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ctxkit_report.notation import number
from ctxkit_report.stretches import placed
from ctxkit_report.visible import fit, fold, visible, width

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ctxkit_report.paint import Paint
    from ctxkit_report.prepared import Sample, Segment

LEGEND = "│ trained   ░ masked: read, not trained   + inserted by the chunker   ═ attention starts anew"
_WIDTH = 96
_HEAD, _TAIL = 6, 2
"""Lines that are shown of the front and of the end of a segment."""
_FIRST, _LAST = 9, 2
"""Segments that are shown from the front and from the end of an example."""


def pick(samples: Sequence[Sample], most: int) -> list[Sample]:
    """Return the examples that show the most: those with more kinds of stretches first, each of another sort."""
    left = sorted(samples, key=lambda sample: -len(_features(sample)))
    chosen: list[Sample] = []
    while left and len(chosen) < most:
        seen = [_sort(sample) for sample in chosen]
        best = next((sample for sample in left if _sort(sample) not in seen), left[0])
        chosen.append(best)
        left.remove(best)
    return chosen


def excerpt(sample: Sample, paint: Paint) -> list[str]:
    """Return the lines of an example, at most 96 columns wide, without its title."""
    segments = placed(sample.segments)
    hidden = segments[_FIRST : max(len(segments) - _LAST, 0)]
    if len(hidden) <= 1:
        return list(_stretches(segments, paint))
    tokens = sum(segment.tokens or 0 for segment, _ in hidden)
    note = f"   … {len(hidden):,} more pieces with {tokens:,} tokens not shown …"
    return [*_stretches(segments[:_FIRST], paint), paint(note, "dim"), *_stretches(segments[-_LAST:], paint)]


def _features(sample: Sample) -> set[str]:
    marks = {"inserted": "inserted", "masked": "masked", "boundary": "boundary"}
    return {name for name, field in marks.items() if any(getattr(segment, field) for segment in sample.segments)}


def _sort(sample: Sample) -> tuple[str, str]:
    return sample.source, sample.difficulty


def _stretches(segments: Sequence[tuple[Segment, str]], paint: Paint) -> Iterator[str]:
    for segment, name in segments:
        if name or segment.boundary:
            yield _rule(name, paint, boundary=segment.boundary)
        style = "inserted" if segment.inserted else "masked" if segment.masked else ""
        marks = ("+" if segment.inserted else " ") + ("░" if segment.masked else "│")
        for line in _lines(segment):
            yield f"{marks} {paint(line.rstrip(), style) if style else line}".rstrip()


def _rule(name: str, paint: Paint, *, boundary: bool) -> str:
    mark = "═" if boundary else "─"
    end = " attention starts anew ═══" if boundary and width(name) <= _WIDTH - 33 else ""
    said = f"{mark * 3} {fit(name, _WIDTH - 8)} " if name else mark * 3
    line = said + mark * max(_WIDTH - width(said) - len(end), 3) + end
    return paint(line, "boundary" if boundary else "strong")


def _lines(segment: Segment) -> list[str]:
    """Return the first and the last lines of a segment, and between them what is not shown."""
    front, end = _folded(segment.text), _folded(segment.tail)
    if not segment.omitted and not end:
        if len(front) <= _HEAD + _TAIL + 1:
            return front or [f"({number(segment.tokens)} tokens without text)"]
        front, end = front[:-_TAIL], front[-_TAIL:]
    hidden = max(len(front) - _HEAD, 0) + max(len(end) - _TAIL, 0)
    parts = [f"{segment.omitted:,} tokens"] if segment.omitted else []
    parts += [f"{hidden:,} line{'s' if hidden > 1 else ''}"] if hidden else []
    note = [f"… {' and '.join(parts)} not shown …"] if parts else []
    return [*front[:_HEAD], *note, *end[-_TAIL:]]


def _folded(text: str) -> list[str]:
    lines = visible(text).expandtabs(4).removesuffix("\n").split("\n") if text else []
    return [part for line in lines for part in fold(line, _WIDTH - 3)]
