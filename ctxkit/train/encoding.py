"""Text to token ids: special tokens in a text split, and long texts cut into blocks where that changes nothing."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

BLOCK_CHARACTERS = 1 << 12
"""A longer text is encoded in blocks of about this size: memory stays flat, and what the words of a block take stays in
the cache of a core, which saves a sixth of the time."""
LONGEST_BLOCK = 1 << 22
"""Where no harmless place is found within so many characters, a block ends anyway."""
AROUND = 32
"""Characters on each side of a cut, which is tried on them before it is made."""
TRIES = 1000
"""Places tried before the search goes on elsewhere."""

BREAKS = (
    # Both begin with what they look for, which is found ten times faster than every place is looked back from.
    re.compile(r"\n(?<=\S\n)(?=\S)"),  # after a lone line end
    re.compile(r"\n(?<=\S\n\n)(?=\S)"),  # after a blank line
    re.compile(r"(?<=[^\W\d_])(?= [^\W\d_])"),  # before a space between letters
)
"""Places at which most tokenizers cut anyway; each is tried out on the tokenizer before it is used."""


class Encoder:
    """Encode texts as `tokenizer(text, add_special_tokens=False, split_special_tokens=True)` does, only faster."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Copy the tokenizer's backend, if it has one, so that its settings stay as they are."""
        own = _copied(tokenizer)
        self._encode = _slow(tokenizer) if own is None else _fast(own)
        self._units = (lambda text: self._encode([text])[0]) if own is None else _pretokens(own)
        self._breaks = [place for place in BREAKS if self._harmless(place)]

    def __call__(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text."""
        return self._encode(texts)

    def blocks(self, text: str) -> Iterator[str]:
        """Yield a text in blocks whose ids, put in a row, are the ids of the text.

        A text that has no harmless place within `LONGEST_BLOCK` characters is cut there all the same: every character
        is kept, a word may be spelled by other tokens.
        """
        start = 0
        while len(text) - start > BLOCK_CHARACTERS:
            end = self._end(text, start)
            yield text[start:end]
            start = end
        if start < len(text) or not text:
            yield text[start:]

    def _end(self, text: str, start: int) -> int:
        latest = min(start + LONGEST_BLOCK, len(text))
        if not self._breaks:
            line = text.rfind("\n", start, latest) + 1
            return line if latest < len(text) and line > start else latest
        for first, last in (
            (start + BLOCK_CHARACTERS, start + 2 * BLOCK_CHARACTERS),
            (start + BLOCK_CHARACTERS, latest),
        ):
            found = (match.end() for place in self._breaks for match in place.finditer(text, first, min(last, latest)))
            end = next((end for end in islice(found, TRIES) if self._same(text, end)), None)
            if end is not None:
                return end
        return latest

    def _same(self, text: str, cut: int) -> bool:
        """Return whether a cut is harmless to the text around it: the sample cannot hold all that texts do."""
        before, after = text[max(cut - AROUND, 0) : cut], text[cut : cut + AROUND]
        return self._units(before + after) == self._units(before) + self._units(after)

    def _harmless(self, place: re.Pattern[str]) -> bool:
        """Return whether cutting at such places is harmless to a sample."""
        cuts = [match.end() for match in place.finditer(_SAMPLE)]
        parts = (self._units(_SAMPLE[start:end]) for start, end in zip([0, *cuts], [*cuts, None], strict=True))
        return [unit for part in parts for unit in part] == self._units(_SAMPLE)


def _sample() -> str:
    """Return a text with what tokenizers treat apart: code, prose, digits, runs of blanks, other scripts, emoji."""
    generator = random.Random("a sample to try cuts on")
    words = [
        "def",
        "return",
        "self.x",
        "été",
        "naïve",
        "数据",
        "слово",
        "don't",
        "3.14159",
        "🙂",
        "_a1",
        "(x,",
        "y);",
        "#",
    ]
    gaps = [" ", " ", " ", "  ", "\t", "\n", "\n", "\n\n", "\n\n\n", "\n    ", " \n", "."]
    return "".join(generator.choice(words) + generator.choice(gaps) for _ in range(4000)) + "end"


_SAMPLE = _sample()

MARKUP = re.compile(r"<\S+>|\[\S+\]")
"""An added token that looks like this is structure, whether or not its tokenizer calls it special: `<|file_sep|>`."""

Encode = Callable[[Sequence[str]], list[list[int]]]


def _copied(tokenizer: PreTrainedTokenizerBase) -> Any:
    """Return a copy of the backend of a tokenizer that neither cuts, pads nor knows special tokens, or None."""
    backend: Any = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return None
    try:
        described = json.loads(backend.to_str())
        for token in described.get("added_tokens", ()):
            token["special"] = token["special"] or MARKUP.fullmatch(token["content"]) is not None
        own: Any = Tokenizer.from_str(json.dumps(described))
    except Exception:  # noqa: BLE001 - a backend with parts written in Python cannot be copied
        return None
    own.no_truncation()
    own.no_padding()
    own.encode_special_tokens = True
    return own


def _fast(own: Any) -> Encode:
    """Return the way that builds neither offsets nor masks."""
    return lambda texts: [item.ids for item in own.encode_batch_fast(list(texts), add_special_tokens=False)]


def _pretokens(own: Any) -> Callable[[str], list[Any]]:
    """Return a function that cuts a text into what is encoded piece by piece, whatever the vocabulary holds."""

    def pretokens(text: str) -> list[Any]:
        if own.normalizer is not None:
            text = own.normalizer.normalize_str(text)
        if own.pre_tokenizer is None:
            return [text] if text else []
        return [piece for piece, _ in own.pre_tokenizer.pre_tokenize_str(text)]

    return pretokens


def _slow(tokenizer: PreTrainedTokenizerBase) -> Encode:
    def encode(texts: Sequence[str]) -> list[list[int]]:
        found: Any = tokenizer(
            list(texts), add_special_tokens=False, split_special_tokens=True, return_attention_mask=False, verbose=False
        )
        ids: list[list[int]] = found["input_ids"]
        return ids

    return encode


def special_pattern(tokenizer: PreTrainedTokenizerBase) -> re.Pattern[str] | None:
    """Return a pattern that finds the special tokens of a tokenizer spelled out in a text, or None without any."""
    tokens = sorted((str(token) for token in tokenizer.all_special_tokens), key=len, reverse=True)
    added = [str(t) for t in tokenizer.added_tokens_decoder.values() if t.special or MARKUP.fullmatch(str(t))]
    spelled = list(dict.fromkeys(token for token in [*tokens, *added] if token.strip()))
    return re.compile("|".join(map(re.escape, spelled))) if spelled else None


def id_type(tokenizer: PreTrainedTokenizerBase) -> np.dtype[Any]:
    """Return the smallest type that holds every id: two bytes below 65,536, else four; vocabularies may have gaps."""
    return np.dtype("<u2" if max(tokenizer.get_vocab().values()) < 1 << 16 else "<i4")
