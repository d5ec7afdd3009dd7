"""Secrets out of everything that ctxkit writes: by their values, once the environment or a recipe has shown them.

A value is known as a secret by the name of its variable or key, or by its place in a URL. What is known is masked
wherever it turns up, in whatever a command prints, a library says, or a file of the run directory holds. A variable
may be named like a secret and hold a word that stands everywhere: such a value is none, see `_looks_secret`.
"""

from __future__ import annotations

import os
import re
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MASK = "***"
SHORTEST = 6
"""Characters below which a value is no secret: masking `true` or `1` would garble what is written."""
NO_SECRETS = frozenset({"disable", "disabled", "enable", "enabled", "default", "https:"})
_LONGEST_USER = 16
"""Characters of a name before the `@` of a URL; what is longer and has no password behind it is a token itself."""
_WORDS = "token|secret|password|passwd|passphrase|credentials?|apikey"
_NAME = re.compile(
    # `hub_token` and `token`, but not `eos_token` and not `max_tokens`: those are what this is all about
    rf"(?:^|(?:hub|hf|api|auth|access|refresh|bearer|session|gh|github|gitlab|wandb|user)[_-]?)(?:{_WORDS})$"
    r"|(?:secret|password|passwd|passphrase|apikey|credentials?)$"
    r"|(?:api|access|private|secret|account|master|encryption|ssh|wandb)[_-]?key(?:[_-]?id)?$",
    re.IGNORECASE,
)
_PLAIN = 12
"""Characters of a variable below which letters alone are a word, digits alone a number, and a `..._KEY` is a name."""
_VARIABLE = re.compile(rf"(?:^|_)(?:{_WORDS}|key|pat|auth)(?:_id)?$", re.IGNORECASE)
_LOOSE = re.compile(r"(?:^|_)(?:key|pat|auth)(?:_id)?$", re.IGNORECASE)
"""Variables that may hold a secret, and a name as well."""
_USER_INFO = re.compile(r"(?<=://)[^\s/?#@'\"]+(?=@)")
_QUERY = re.compile(r"[?&](?:[\w-]*(?:token|secret|password|signature|sig|key))=([^\s&#'\"]+)", re.IGNORECASE)
_ASSIGNED = re.compile(r"([\w.-]+)=(.+)", re.DOTALL)

_known: set[str] = set()
_public: set[str] = set()
_pattern: re.Pattern[str] | None = None


def names_secret(key: str) -> bool:
    """Return whether a key such as `hub_token` or `aws_secret_access_key` holds a secret; `eos_token` does not."""
    return bool(_NAME.search(key.rpartition(".")[2]))


def learn(values: Iterable[str]) -> None:
    """Remember secrets, to be masked from now on wherever they turn up, however they are quoted there."""
    wanted = {value.strip() for value in values if len(value.strip()) >= SHORTEST and MASK not in value}
    wanted = {value for value in wanted - NO_SECRETS if not _named_in_public(value)}
    if not wanted <= _known:
        _known.update(wanted)
        _compile()


def spare(texts: Iterable[str]) -> None:
    """Leave unmasked what these hold, such as the name of a recipe: a value that stands in one is known to all."""
    _public.update(texts)
    spared = {value for value in _known if _named_in_public(value)}
    if spared:
        _known.difference_update(spared)
        _compile()


def _named_in_public(value: str) -> bool:
    return any(value in text for text in _public)


def _compile() -> None:
    global _pattern  # noqa: PLW0603 - what is written is written from everywhere
    forms = {form for value in _known for form in _forms(value) if len(form) >= SHORTEST}
    longest_first = sorted(forms, key=lambda form: (-len(form), form))
    _pattern = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None


def learn_environment() -> None:
    """Learn the secrets of the environment by the names of its variables, and the login of the hub."""
    learn(value for name, value in os.environ.items() if _VARIABLE.search(name) and _looks_secret(name, value.strip()))
    for value in os.environ.values():
        learn(in_urls(value))
    learn(_login())


def learn_words(words: Iterable[str]) -> None:
    """Learn the secrets of a command line: `--set train.hub_token=...`, and URLs with a password."""
    for word in words:
        learn(in_urls(word))
        stated = _ASSIGNED.fullmatch(word)
        if stated and names_secret(stated[1]):
            learn([stated[2]])


def learn_tree(value: Any, key: str = "") -> None:
    """Learn the secrets of plain values, such as a recipe: by key, and in URLs."""
    if isinstance(value, dict):
        for name, child in value.items():
            learn_tree(child, str(name))
    elif isinstance(value, list | tuple):
        for child in value:
            learn_tree(child, key)
    elif isinstance(value, str):
        learn(in_urls(value))
        learn([value] if names_secret(key) else [])


def in_urls(text: str) -> Iterator[str]:
    """Yield user, password and tokens of the URLs in a text; of `user:password@` both parts and the whole."""
    for found in _USER_INFO.findall(text):
        _, colon, password = found.partition(":")
        if colon:
            yield from (found, password)
        elif len(found) > _LONGEST_USER:
            yield found
    yield from _QUERY.findall(text)


def _looks_secret(name: str, value: str) -> bool:
    """Return whether a variable that is named like a secret holds one: no path of a file, no word, no number.

    `SORT_KEY=created_at` and `LICENSE_KEY=llama2` hold names, `DB_PASSWORD=postgres` what stands everywhere.
    """
    if value.startswith(("/", "~")):
        return False
    if _LOOSE.search(name) and not names_secret(name):
        return len(value) >= _PLAIN and bool(re.search(r"\d", value)) and not value.isdigit()
    return len(value) >= _PLAIN or not (value.isalpha() or value.isdigit())


def same(one: str, other: str) -> bool:
    """Return whether two texts are the same as far as can be told where a secret of one of them, or both, is masked."""
    return one == other or _may_be(one, other) or _may_be(other, one)


def _may_be(shown: str, text: str) -> bool:
    return MASK in shown and re.fullmatch(".+".join(map(re.escape, shown.split(MASK))), text, re.DOTALL) is not None


def mask(text: str) -> str:
    """Return a text with every known secret as `***`."""
    return text if _pattern is None else _pattern.sub(MASK, text)


def masked(value: Any) -> Any:
    """Return plain values with every known secret masked."""
    if isinstance(value, dict):
        return {mask(key) if isinstance(key, str) else key: masked(child) for key, child in value.items()}
    if isinstance(value, list | tuple):
        return [masked(child) for child in value]
    return mask(value) if isinstance(value, str) else value


class _MaskedBytes:
    """The bytes beneath a stream, which click writes where the terminal says that it knows ASCII alone."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def write(self, data: bytes) -> int:
        text = bytes(data).decode("utf-8", "surrogateescape")
        self._stream.write(mask(text).encode("utf-8", "surrogateescape"))
        return len(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _Masked:
    """A stream that masks what is written to it; all else is the stream's own."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(mask(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    @property
    def buffer(self) -> _MaskedBytes:
        return _MaskedBytes(self._stream.buffer)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def streams() -> Iterator[None]:
    """Learn the secrets of the environment, and mask all that is printed within the block, by libraries too."""
    learn_environment()
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = _Masked(before[0]), _Masked(before[1])
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def _forms(value: str) -> Iterator[str]:
    """Yield a secret as it stands in a text, a URL, JSON and the `repr` of Python."""
    # Imported here, since most commands know no secret, and `--help` is to be quick.
    import json
    from urllib.parse import quote, unquote

    yield from (value, quote(value, safe=""), unquote(value), repr(value)[1:-1])
    yield from (json.dumps(value, ensure_ascii=ascii_only)[1:-1] for ascii_only in (False, True))


def _login() -> Iterator[str]:
    """Yield the tokens that `hf auth login` keeps in files."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111
    home = os.environ.get("HF_HOME") or f"{cache}/huggingface"
    for file in (os.environ.get("HF_TOKEN_PATH") or f"{home}/token", f"{home}/stored_tokens"):
        try:
            with open(file, encoding="utf-8") as text:  # noqa: PTH123
                yield from re.findall(r"\bhf_\w+", text.read())
        except (OSError, ValueError):
            continue
