"""Texts that were cut before they came here, told by what the cut left behind."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ctxkit.spec import Document

TAIL = 200
"""Characters at the end in which a pattern may match."""
FENCE = re.compile(r"^ {0,3}(`{3,})[ \t]*([^`\n]*?)[ \t]*$", re.MULTILINE)


@dataclass(frozen=True)
class TruncationFilter:
    """Judge a document by how it ends."""

    patterns: tuple[re.Pattern[str], ...]
    code_fences: bool

    @classmethod
    def of(cls, *, patterns: Sequence[str], code_fences: bool) -> TruncationFilter:
        """Compile patterns that match at the end of a text, in capital or small letters."""
        return cls(tuple(re.compile(rf"(?:{pattern})\Z", re.IGNORECASE) for pattern in patterns), code_fences)

    def __call__(self, document: Document) -> str | None:
        """Return why the document is dropped, or None."""
        tail = document.text.rstrip()[-TAIL:]
        if any(pattern.search(tail) for pattern in self.patterns):
            return "ends with a mark of truncation"
        if self.code_fences and ends_in_code_fence(document.text):
            return "ends within a fenced code block"
        return None


def ends_in_code_fence(text: str) -> bool:
    """Tell whether a Markdown text ends before its last fenced code block is closed.

    A block opened by three or more backticks is closed by a line of as many or more and nothing else (CommonMark 0.31,
    4.5). Fences of tildes are not looked at: such lines underline headings in reStructuredText.
    """
    opened = ""
    for fence, info in FENCE.findall(text) if "```" in text else ():
        if not opened:
            opened = fence
        elif fence.startswith(opened) and not info:
            opened = ""
    return bool(opened)
