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


@dataclass(frozen=True)
class Globs:
    """Paths that one pattern includes and none excludes.

    `*` and `?` stay within a folder, `**` crosses folders, `[a-z]` is a set; a pattern that matches a folder stands for
    everything below it. Matching is on the whole path from the root of the repository.
    """

    include: tuple[str, ...]
    exclude: tuple[str, ...] = ()

    def matches(self, path: bytes) -> bool:
        """Tell whether a path is chosen."""
        name = os.fsdecode(path)
        return bool(self._included.fullmatch(name)) and not self._excluded.fullmatch(name)

    @cached_property
    def _included(self) -> re.Pattern[str]:
        return _pattern(self.include)

    @cached_property
    def _excluded(self) -> re.Pattern[str]:
        return _pattern(self.exclude)


def _pattern(globs: Iterable[str]) -> re.Pattern[str]:
    either = "|".join(_translated(glob.rstrip("/")) for glob in globs)
    return re.compile(f"(?s:(?:{either})(?:/.*)?)" if either else r"(?!)")


def _translated(glob: str) -> str:
    """Return a glob as a regular expression."""
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
