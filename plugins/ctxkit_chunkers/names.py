"""Which names a text defines, and where, told by simple rules for each language.

A line that begins with a keyword of the language defines the name that follows it: functions, methods and classes in
Python; functions, classes, interfaces and enums in JavaScript and TypeScript; types in Java; functions, methods and
types in Go; functions, types, traits and modules in Rust. In C and C++ it is a line at the left margin that opens a
function or a type. Names that are assigned are not seen.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = rb"([A-Za-z_\x80-\xff][\w\x80-\xff]*)"
INDENT = rb"^([ \t]*)"
SCRIPT = (
    INDENT + rb"(?:(?:export|default|abstract|async|declare)[ \t]+)*(?:function\*?|class|interface|enum)[ \t]+" + NAME
)
C_LIKE = (
    rb"^()(?!(?:return|else|typedef|using|namespace)\b)"
    rb"(?:[A-Za-z_][\w \t*&:<>,]{0,200}[ \t*&:])" + NAME + rb"\([^;\n]*$"
    rb"|^()(?:typedef[ \t]+)?(?:struct|class|enum|union)[ \t]+" + NAME + rb"[^;\n]*$"
)
RULES = {
    language: re.compile(rule, re.MULTILINE)
    for language, rule in {
        "python": INDENT + rb"(?:async[ \t]+)?(?:def|class)[ \t]+" + NAME,
        "javascript": SCRIPT,
        "typescript": SCRIPT,
        "tsx": SCRIPT,
        "java": INDENT
        + rb"(?:(?:public|private|protected|static|final|abstract|sealed|strictfp)[ \t]+)*"
        + rb"(?:class|@?interface|enum|record)[ \t]+"
        + NAME,
        "go": rb"^()(?:func[ \t]+(?:\([^)\n]*\)[ \t]*)?|type[ \t]+)" + NAME,
        "rust": INDENT
        + rb"(?:pub(?:\([^)\n]*\))?[ \t]+)?(?:(?:async|unsafe|const|extern[ \t]+\"C\")[ \t]+)*"
        + rb"(?:fn|struct|enum|trait|mod|union|macro_rules!)[ \t]+"
        + NAME,
        "c": C_LIKE,
        "cpp": C_LIKE,
    }.items()
}
LEADS = (b"@", b"#", b"//", b"/*", b" *")
"""What a line begins with that belongs to the definition below it: decorators, attributes, comments."""


@dataclass(frozen=True)
class Definition:
    """A name that a text defines; places are bytes of the text."""

    name: str
    start: int
    """Where its line begins, or the first of the comments and decorators right above it."""
    name_end: int
    top: bool
    """Whether it stands at the left margin."""


def definitions_in(data: bytes, language: str) -> Iterator[Definition]:
    """Yield the definitions of a text as UTF-8, in order; none in a language without a rule."""
    rule = RULES.get(language)
    for match in rule.finditer(data) if rule else ():
        group = match.lastindex or 0
        name = match[group].decode(errors="replace")
        yield Definition(name, _lead(data, match.start()), match.end(group), not match[group - 1])


def _lead(data: bytes, start: int) -> int:
    """Return where the lines right above that belong to the one at `start` begin."""
    while start > 0:
        above = data.rfind(b"\n", 0, start - 1) + 1
        if not data.startswith(LEADS, above):
            break
        start = above
    return start
