"""Name an example, and the stretches of documents in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ctxkit_report.visible import label

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ctxkit_report.prepared import Sample, Segment


def title(sample: Sample) -> str:
    """Name an example: `train row 17, 4,096 tokens, source git, hard`."""
    row = "" if sample.row is None else f" row {sample.row:,}"
    parts = (
        f"{label(sample.split) or 'some'}{row}",
        f"{sample.tokens:,} tokens" if sample.tokens is not None else "",
        f"source {label(sample.source)}" if sample.source else "",
        label(sample.difficulty).replace("_", " "),
    )
    return ", ".join(part for part in parts if part)


def place(segment: Segment, end: int | None) -> str:
    """Name the document of a segment and the part of it from there to `end`: `repo/a.py, tokens 0 to 812`."""
    name = label(segment.document) or "unnamed document"
    return name if segment.start is None or end is None else f"{name}, tokens {segment.start:,} to {end:,}"


def placed(segments: Sequence[Segment]) -> list[tuple[Segment, str]]:
    """Return each segment with the name of the stretch that begins there, empty where none does.

    A stretch goes on while the next segment of the document begins where the one before ended, whether it is masked
    or not and whatever was inserted between; it ends where attention starts anew.
    """
    names = [""] * len(segments)
    first = last = 0
    fresh = True
    for index, segment in enumerate(segments):
        fresh = fresh or segment.boundary
        if segment.inserted:
            continue
        if fresh or not _goes_on(segments[last], segment):
            first = index
        last, fresh = index, False
        names[first] = place(segments[first], segment.end)
    return list(zip(segments, names, strict=True))


def _goes_on(before: Segment, segment: Segment) -> bool:
    return before.document == segment.document and before.end == segment.start
