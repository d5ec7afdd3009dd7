"""File names and other bytes of a repository as text that is safe to show and to store."""

from __future__ import annotations

import re

_PLAIN = re.compile(rb'[^\x00-\x1f"\\\x7f]*')
_SHORT = {7: "a", 8: "b", 9: "t", 10: "n", 11: "v", 12: "f", 13: "r", 34: '"', 92: "\\"}


def readable(name: bytes | str) -> str:
    r"""Return a name as printable text: other bytes than UTF-8 and control characters as `\xff`, `\n`."""
    text = name.decode("utf-8", "backslashreplace") if isinstance(name, bytes) else name
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def quoted(name: bytes) -> str:
    """Return a name as git writes it into a diff with `core.quotePath=false`: in quotes with escapes where it must.

    Bytes that are not UTF-8 are escaped too, for a diff is text here.
    """
    if _PLAIN.fullmatch(name) and _is_text(name):
        return name.decode()
    return '"' + "".join(_escaped(byte) for byte in name) + '"'


def _is_text(name: bytes) -> bool:
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True


def _escaped(byte: int) -> str:
    if byte in _SHORT:
        return "\\" + _SHORT[byte]
    return chr(byte) if 32 <= byte < 127 else f"\\{byte:03o}"
