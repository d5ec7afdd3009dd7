"""Colour, bars and rules for a terminal, and what to do where it cannot show them."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass

_CODES = {
    "strong": "1",
    "dim": "2",
    "boundary": "1;33",
    "inserted": "36",
    "masked": "2;3",
    "warning": "33",
    "bar": "34",
}
"""Select Graphic Rendition, ECMA-48; the colours are the terminal's own."""
_EIGHTHS = "▏▎▍▌▋▊▉█"
_PLAIN = str.maketrans(
    dict.fromkeys("▌▋▊▉█", "#")
    | dict.fromkeys("▏▎▍", ".")
    | {"─": "-", "═": "=", "│": "|", "░": ":", "▶": ">", "×": "x", "…": "~", "⟨": "<", "⟩": ">"}
    | {"\N{EN DASH}": "-", "\N{NO-BREAK SPACE}": " "}
    | {"\N{LEFT DOUBLE QUOTATION MARK}": '"', "\N{RIGHT DOUBLE QUOTATION MARK}": '"'}
)
"""One character for one, so that columns stay where they are."""


@dataclass(frozen=True)
class Paint:
    """Colours text, or leaves it as it is."""

    colour: bool

    def __call__(self, text: str, style: str) -> str:
        """Return text in a style of this module; it ends where the text ends."""
        return f"\x1b[{_CODES[style]}m{text}\x1b[0m" if self.colour and text else text


def wants_colour() -> bool:
    """Whether the person has not forbidden colour (https://no-color.org) and the terminal may know it."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def bar(share: float, columns: int) -> str:
    """Return a bar of blocks for a share of 0 to 1, in eighths of a column; what is not zero always shows."""
    eighths = math.ceil(min(max(share, 0.0), 1.0) * columns * 8)
    full, rest = divmod(eighths, 8)
    return _EIGHTHS[7] * full + (_EIGHTHS[rest - 1] if rest else "")


def writable(text: str, encoding: str) -> str:
    """Return text that an encoding can hold: marks by ASCII ones, any other character by its escape sequence."""
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.translate(_PLAIN).encode(encoding, "backslashreplace").decode(encoding)
    except LookupError:
        return text.translate(_PLAIN).encode("ascii", "backslashreplace").decode("ascii")
    return text
