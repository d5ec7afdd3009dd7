"""Make any text harmless to look at: what a screen would obey or hide becomes a name or a code point."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_JOINERS = "\u200c\u200d"
"""Ordinary spelling in Persian, Hindi and emoji; they change no order and hide nothing."""
_OPEN, _CLOSE = "\N{MATHEMATICAL LEFT ANGLE BRACKET}", "\N{MATHEMATICAL RIGHT ANGLE BRACKET}"
_CONTROLS = (  # noqa: SIM905 - a list would stand on 32 lines
    "NUL SOH STX ETX EOT ENQ ACK BEL BS HT LF VT FF CR SO SI DLE DC1 DC2 DC3 DC4 NAK SYN ETB CAN EM SUB ESC FS GS RS US"
).split()
"""The first 32 characters of ASCII by their names."""
_PICTURES = 0x2400
"""Where Unicode has a picture for each of them, whose name says what it is."""
_DELETE = 0x7F


def visible(text: str, *, keep: str = "\n\t") -> str:
    """Return text in which every control, format, private and unpaired character is written out.

    Escape becomes `⟨ESC⟩`, a right-to-left override becomes `⟨U+202E⟩`; the characters in `keep` stay.
    """
    return "".join(f"{_OPEN}{part}{_CLOSE}" if name else part for part, name in pieces(text, keep=keep))


def pieces(text: str, *, keep: str = "\n\t") -> Iterator[tuple[str, str]]:
    """Yield runs of plain text, each with an empty name, and every character written out, with its name."""
    run: list[str] = []
    for character in text:
        if character in keep or _harmless(character):
            run.append(character)
            continue
        if run:
            yield "".join(run), ""
            run = []
        yield _written(character), _name(character)
    if run:
        yield "".join(run), ""


def label(text: str, limit: int = 120) -> str:
    """Return a name for one line: harmless, its line ends written out, and cut in the middle where it is long."""
    shown = visible(text[: 4 * limit], keep="")
    if len(shown) <= limit:
        return shown
    tail = (limit - 1) // 2
    return f"{shown[: limit - 1 - tail]}…{visible(text[-limit:], keep='')[-tail:]}"


def width(text: str) -> int:
    """Return how many columns of a terminal a line takes: East Asian wide characters two, combining ones none."""
    return len(text) if text.isascii() else sum(map(_columns, text))


def fold(line: str, columns: int) -> list[str]:
    """Break a line into parts of at most so many columns, after a space where one is near; at least one part."""
    if len(line) <= columns and line.isascii():
        return [line]
    parts: list[str] = []
    part: list[str] = []
    used = 0
    for character in line:
        needed = _columns(character)
        # A stack of combining marks takes no column, and must not go on for ever.
        if used + needed > columns or len(part) >= 4 * columns:
            kept = _break(part)
            parts.append("".join(part[:kept]))
            part = part[kept:]
            used = sum(map(_columns, part))
        part.append(character)
        used += needed
    return [*parts, "".join(part)]


def fit(text: str, columns: int) -> str:
    """Cut a line to so many columns, and say with a mark that it was cut."""
    return text if width(text) <= columns else f"{_front(text, columns - 1)}…"


def pad(text: str, columns: int, *, right: bool = False) -> str:
    """Cut and fill a line to exactly so many columns; `right` sets it against the right edge."""
    cut = fit(text, columns)
    space = " " * (columns - width(cut))
    return space + cut if right else cut + space


def _front(text: str, columns: int) -> str:
    used = 0
    for place, character in enumerate(text):
        used += _columns(character)
        if used > columns:
            return text[:place]
    return text


def _break(part: list[str]) -> int:
    """Return how many characters of a full line stay on it."""
    last = len(part) - part[::-1].index(" ") if " " in part else 0
    return last if last > len(part) * 2 // 3 else len(part)


def _harmless(character: str) -> bool:
    """Whether a character shows itself and nothing else; spaces count, line and paragraph separators do not."""
    return character.isprintable() or character in _JOINERS or unicodedata.category(character) == "Zs"


def _written(character: str) -> str:
    number = ord(character)
    if number < len(_CONTROLS):
        return _CONTROLS[number]
    return "DEL" if number == _DELETE else _code(character)


def _name(character: str) -> str:
    number = ord(character)
    if number < len(_CONTROLS):
        return unicodedata.name(chr(_PICTURES + number)).removeprefix("SYMBOL FOR ")
    return unicodedata.name(character, f"character {_code(character)}")


def _code(character: str) -> str:
    return f"U+{ord(character):04X}"


def _columns(character: str) -> int:
    if unicodedata.combining(character) or unicodedata.category(character) in {"Mn", "Me", "Cf"}:
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
