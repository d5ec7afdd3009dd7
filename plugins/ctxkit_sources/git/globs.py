"""Choose paths inside a repository by glob patterns."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_TOKENS = re.compile(r"(?P<folders>\*\*/)|(?P<any>\*\*)|(?P<star>\*)|(?P<one>\?)|\[(?P<not>[!^]?)(?P<set>\]?[^\]]*)\]")


BELOW = "(?:/.*)?"


@dataclass(frozen=True)
class Globs:
    """Paths that one pattern includes and none excludes.

    `*` and `?` stay within a folder, `**` crosses folders, `[a-z]` is a set. A folder without any of these includes all
    below it, as in git's `:(glob)`; what excludes a folder excludes all below it. Paths are matched whole, from the
    root of the repository.
    """

    include: tuple[str, ...]
    exclude: tuple[str, ...] = ()

    def matches(self, path: bytes) -> bool:
        """Tell whether a path is chosen."""
        name = os.fsdecode(path)
        return bool(self._included.fullmatch(name)) and not self._excluded.fullmatch(name)

    @cached_property
    def _included(self) -> re.Pattern[str]:
        return _pattern(f"{_translated(glob)}{'' if _TOKENS.search(glob) else BELOW}" for glob in self.include)

    @cached_property
    def _excluded(self) -> re.Pattern[str]:
        return _pattern(f"{_translated(glob)}{BELOW}" for glob in self.exclude)


def _pattern(expressions: Iterable[str]) -> re.Pattern[str]:
    return re.compile("|".join(f"(?s:{expression})" for expression in expressions) or "(?!)")


def _translated(glob: str) -> str:
    """Return a glob as a regular expression."""
    glob = glob.rstrip("/")
    parts, end = [], 0
    for token in _TOKENS.finditer(glob):
        parts += [re.escape(glob[end : token.start()]), _token(token)]
        end = token.end()
    return "".join([*parts, re.escape(glob[end:])])


def _token(token: re.Match[str]) -> str:
    simple = {"folders": "(?:.*/)?", "any": ".*", "star": "[^/]*", "one": "[^/]"}
    if token.lastgroup in simple:
        return simple[token.lastgroup]
    members = token["set"].replace("\\", r"\\").replace("[", r"\[").replace("]", r"\]").replace("&", r"\&")
    return f"(?!/)[{'^' if token['not'] else ''}{members}]"
