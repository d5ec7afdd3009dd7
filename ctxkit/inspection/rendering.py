"""An inspection as text for a terminal; the `data` section comes last, to be copied."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ctxkit.inspection import Inspection
    from ctxkit.inspection.documents import Documents, LeftOut, Type
    from ctxkit.inspection.histories import History
    from ctxkit.inspection.lengths import Bucket, Lengths

BAR = 40
"""Characters of the longest bar."""
MOST_TYPES = 15
_SIGNS = {"best": "**", "good": "* ", "possible": "  ", "no": "- "}


def render(found: Inspection) -> str:
    """Return the text."""
    unit = f"tokens ({found.tokens})"
    parts = [found.target.shown, _types(found, unit), *_left_out(found.documents.left_out)]
    if found.documents.lengths:
        parts += _lengths(found.documents.lengths, "documents", unit)
    if found.history:
        parts += _history(found.history, found.documents, unit)
    parts += [f"note: {said}" for said in found.notes]
    parts += [_advice(found), f"data section for the first of them, valid as it is:\n\n{found.data.rstrip()}"]
    return "\n\n".join(parts)


def _types(found: Inspection, unit: str) -> str:
    types = found.documents.types
    rows = [_type(item.ending, [item]) for item in types[:MOST_TYPES]]
    if len(types) > MOST_TYPES:
        rows.append(_type(f"{len(types) - MOST_TYPES} more", types[MOST_TYPES:]))
    return table([("type", "documents", "bytes", unit), *rows, _type("all", types)])


def _type(name: str, types: Sequence[Type]) -> tuple[str, ...]:
    sums = (sum(item.count for item in types), sum(item.bytes for item in types), sum(item.tokens for item in types))
    return (name, *map(_number, sums))


def _left_out(left_out: Sequence[LeftOut]) -> Iterator[str]:
    if left_out:
        rows = [(item.reason, _number(item.count), item.examples[0]) for item in left_out]
        yield table([("left out", "count", "such as"), *rows], left=(0, 2))


def _lengths(lengths: Lengths, what: str, unit: str) -> Iterator[str]:
    yield f"length of {what} in {unit}\n" + _histogram(lengths.histogram)
    held = ", ".join(f"{part} % by {_number(window)}" for part, window in lengths.holds.items())
    yield f"{what} held whole by a window in {unit}: {held}, all by {_number(lengths.longest)}"
    rows = [(_number(item.window), _share(item.count), _share(item.tokens)) for item in lengths.windows]
    yield table([(f"window in {unit}", f"{what} it holds whole", "their part of the tokens"), *rows])


def _history(history: History, files: Documents, unit: str) -> Iterator[str]:
    read = "" if history.whole else f"; only the first {_number(history.versions)} versions were read"
    yield (
        f"history: {_number(history.commits)} commits that change files, {_number(history.used)} of them used: "
        f"{_number(history.versions)} versions in {_number(sum(item.count for item in history.chains))} chains, "
        f"a chain being the history of one file{read}"
    )
    yield from _left_out(history.left_out)
    if history.lengths is None:
        return
    yield "versions of a chain\n" + _histogram(history.chains)
    yield from _lengths(history.lengths, "chains", unit)
    rows = [
        (_number(window), f"about {_number(files.examples[window])}", f"about {_number(count)}")
        for window, count in history.examples.items()
    ]
    yield table([(f"window in {unit}", "multi_file examples", "commit_chain examples"), *rows])


def _advice(found: Inspection) -> str:
    rows = [f"{_SIGNS[item.fit]} {item.chunker:<13} {item.why}" for item in found.chunkers]
    return "\n".join([f"chunkers (** best, * good, - not for this); windows in tokens ({found.tokens})", *rows])


def _histogram(buckets: Sequence[Bucket]) -> str:
    most = max(bucket.count for bucket in buckets)
    rows = [(_range(item), _number(item.count), "#" * -(-BAR * item.count // most)) for item in buckets]
    return table([("from ... to", "count", ""), *rows], left=(2,))


def _range(bucket: Bucket) -> str:
    if bucket.least == bucket.most:
        return _number(bucket.least)
    return f"{_number(bucket.least)} to {_number(bucket.most)}"


def table(rows: Sequence[tuple[str, ...]], left: Sequence[int] = (0,)) -> str:
    """Return rows with aligned columns, numbers to the right, those of `left` to the left."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def _number(value: int) -> str:
    return f"{value:,}"


def _share(part: float) -> str:
    return f"{part:.1%}"
