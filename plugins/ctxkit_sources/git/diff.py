"""Differences of two texts as git writes them, by patience diff and in bounded time.

Patience diff (Bram Cohen; `git diff --patience`): lines that stand exactly once on both sides anchor the rest, as far
as they are in the same order; what lies between two anchors is treated the same way.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, TypeAlias

from ctxkit_sources.git.names import quoted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

CONTEXT = 3
"""Unchanged lines around a change."""
FINE = 100_000
"""Pairs of lines between two anchors that are compared; beyond, the lines are replaced as a whole."""
WORK = 5_000_000
"""Lines looked at and pairs compared for one difference, about a second; what is left then is replaced as a whole."""
UNENDED = "\n\\ No newline at end of file"

Lines: TypeAlias = "Sequence[str]"
Region: TypeAlias = tuple[int, int, int, int]
"""Lines `[start, end)` of the old text that lines `[start, end)` of the new one replace."""


def unified(old: str | None, new: str | None, old_path: bytes, path: bytes) -> str:
    """Return the difference of two versions of a file in git's form; `git apply` turns the one into the other.

    Lines end at a newline alone, so that a carriage return is part of its line. Nothing is said of file modes but that
    of a regular file.

    Args:
        old: None where the file is new.
        new: None where the file is deleted.
        old_path: Path of the old version; differs from `path` where the file was renamed.
        path: Path of the new version.
    """
    before, after = quoted(b"a/" + old_path), quoted(b"b/" + path)
    head = [f"diff --git {before} {after}\n", *_extended(old, new, old_path, path)]
    body = list(_hunks(split_lines(old or ""), split_lines(new or "")))
    if body:
        head.append(f"--- {'/dev/null' if old is None else _ended(before)}\n")
        head.append(f"+++ {'/dev/null' if new is None else _ended(after)}\n")
    return "".join(head + body)


def _extended(old: str | None, new: str | None, old_path: bytes, path: bytes) -> list[str]:
    if old is None:
        return ["new file mode 100644\n"]
    if new is None:
        return ["deleted file mode 100644\n"]
    if old_path != path:
        return [f"rename from {quoted(old_path)}\n", f"rename to {quoted(path)}\n"]
    return []


def _ended(name: str) -> str:
    """Return a name with a tab behind it where it holds a blank, so that it does not end there for `patch`."""
    return f"{name}\t" if " " in name else name


def split_lines(text: str) -> list[str]:
    """Return the lines without their newlines; a last line without one is marked as a diff marks it.

    The mark begins with a newline, which no other line contains, so that both kinds of last line differ.
    """
    lines = text.split("\n")
    last = lines.pop()
    return [*lines, last + UNENDED] if last else lines


def _hunks(old: Lines, new: Lines) -> Iterator[str]:
    """Yield the hunks, each with its lines of context."""
    for group in _grouped(list(regions(old, new))):
        start, end = max(group[0][0] - CONTEXT, 0), min(group[-1][1] + CONTEXT, len(old))
        shift = group[0][2] - group[0][0]
        new_end = end + group[-1][3] - group[-1][1]
        yield f"@@ -{_range(start, end)} +{_range(start + shift, new_end)} @@\n"
        for old_start, old_end, new_start, new_end in group:
            yield from _marked(" ", old[start:old_start])
            yield from _marked("-", old[old_start:old_end])
            yield from _marked("+", new[new_start:new_end])
            start = old_end
        yield from _marked(" ", old[start:end])


def _marked(mark: str, lines: Lines) -> Iterator[str]:
    return (f"{mark}{line}\n" for line in lines)


def _grouped(changed: Sequence[Region]) -> Iterator[list[Region]]:
    """Yield the regions of one hunk: those whose context would touch."""
    group: list[Region] = []
    for region in changed:
        if group and region[0] - group[-1][1] > 2 * CONTEXT:
            yield group
            group = []
        group.append(region)
    if group:
        yield group


def _range(start: int, end: int) -> str:
    """Return lines as a hunk header names them: first and count, or where none, the line before."""
    count = end - start
    if count == 1:
        return str(start + 1)
    return f"{start + 1 if count else start},{count}"


def regions(old: Lines, new: Lines) -> Iterator[Region]:
    """Yield what differs, in order; what is between is equal."""
    pending = [(0, len(old), 0, len(new))]
    left = WORK
    while pending:
        region = _trimmed(old, new, pending.pop())
        old_lines, new_lines = region[1] - region[0], region[3] - region[2]
        if not (old_lines and new_lines):
            yield from [region] * bool(old_lines or new_lines)
            continue
        left -= old_lines + new_lines
        anchors = _anchors(old, new, region) if left > 0 else []
        if anchors:
            pending += reversed(list(_between(region, anchors)))
        elif old_lines * new_lines <= min(FINE, left):
            left -= old_lines * new_lines
            yield from _compared(old, new, region)
        else:
            yield region


def _trimmed(old: Lines, new: Lines, region: Region) -> Region:
    """Return a region without the lines that both sides begin or end with."""
    old_start, old_end, new_start, new_end = region
    while old_start < old_end and new_start < new_end and old[old_start] == new[new_start]:
        old_start, new_start = old_start + 1, new_start + 1
    while old_start < old_end and new_start < new_end and old[old_end - 1] == new[new_end - 1]:
        old_end, new_end = old_end - 1, new_end - 1
    return old_start, old_end, new_start, new_end


def _anchors(old: Lines, new: Lines, region: Region) -> list[tuple[int, int]]:
    """Return places of lines that stand once on both sides, the most that are in order on both."""
    old_start, old_end, new_start, new_end = region
    there = _once(new[new_start:new_end], new_start)
    here = _once(old[old_start:old_end], old_start)
    return _increasing([(place, there[line]) for line, place in here.items() if line in there])


def _once(lines: Lines, start: int) -> dict[str, int]:
    counts = Counter(lines)
    return {line: place for place, line in enumerate(lines, start) if counts[line] == 1}


def _increasing(pairs: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the longest run of pairs, sorted by the first, in which the second increases (patience sorting)."""
    tops: list[int] = []
    last: list[int] = []
    before: list[int] = []
    for index, (_, place) in enumerate(pairs):
        pile = bisect_left(tops, place)
        tops[pile : pile + 1] = [place]
        last[pile : pile + 1] = [index]
        before.append(last[pile - 1] if pile else -1)
    chosen, index = [], last[-1] if last else -1
    while index >= 0:
        chosen.append(pairs[index])
        index = before[index]
    return chosen[::-1]


def _between(region: Region, anchors: Sequence[tuple[int, int]]) -> Iterator[Region]:
    """Yield the regions before, between and behind anchors."""
    old_at, old_end, new_at, new_end = region
    for old_place, new_place in anchors:
        yield old_at, old_place, new_at, new_place
        old_at, new_at = old_place + 1, new_place + 1
    yield old_at, old_end, new_at, new_end


def _compared(old: Lines, new: Lines, region: Region) -> Iterator[Region]:
    """Yield what differs where no line is an anchor."""
    old_start, old_end, new_start, new_end = region
    matcher = SequenceMatcher(None, old[old_start:old_end], new[new_start:new_end], autojunk=False)
    for tag, first, last, new_first, new_last in matcher.get_opcodes():
        if tag != "equal":
            yield old_start + first, old_start + last, new_start + new_first, new_start + new_last
