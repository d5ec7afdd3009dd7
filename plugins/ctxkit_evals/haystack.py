"""The text in which something is hidden: documents of the user, or filler that repeats."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ctxkit.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from transformers import PreTrainedTokenizerBase

    from ctxkit.spec import Document

FILLER = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again."
"""The text that Mohtashami and Jaggi (2023, Landmark Attention, appendix) repeat around a pass key."""
SPARE = 50
"""How many times the longest prompt is read from the documents, so that samples have texts of their own."""


@dataclass(frozen=True)
class Haystack:
    """Tokens to draw texts from."""

    ids: list[int]
    longest: int
    """Tokens of the longest prompt that will be asked for."""
    seed: int
    varied: bool = True
    """Whether samples have texts of their own; those of filler all begin at its front."""

    def text(self, sample: int, tokens: int) -> list[int]:
        """Return the text of a sample; a shorter one is the front of the longer one.

        Raises:
            DataError: there are not so many tokens.
        """
        if len(self.ids) < tokens:
            raise DataError(f"the haystack has {len(self.ids)} tokens, {tokens} are needed", "add text")
        spare = max(len(self.ids) - self.longest, 0) if self.varied else 0
        start = random.Random(f"haystack {self.seed} {sample}").randint(0, spare)
        return self.ids[start : start + tokens]


def gathered(
    documents: Iterable[Document] | None, tokenizer: PreTrainedTokenizerBase, longest: int, seed: int
) -> Haystack:
    """Return enough tokens of the documents, in their order, for prompts of `longest` tokens; without any, filler.

    Raises:
        DataError: the documents hold no text.
    """
    if documents is None:
        once = len(encoded(tokenizer, f"{FILLER} "))
        return Haystack(encoded(tokenizer, f"{FILLER} " * (2 * longest // once + 2)), longest, seed, varied=False)
    ids: list[int] = []
    for document in documents:
        ids += encoded(tokenizer, document.text)
        if len(ids) > SPARE * longest:
            break
    if not ids:
        raise DataError("the haystack holds no text", "choose another source, or leave `haystack` out for filler")
    return Haystack(ids, longest, seed)


def encoded(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Return the token ids of a text, however long; no text becomes a special token."""
    ids: list[int] = tokenizer(text, add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"]
    return ids


def decoded(tokenizer: PreTrainedTokenizerBase, ids: Iterable[int]) -> str:
    """Return the text of token ids."""
    return str(tokenizer.decode(list(ids)))


def continued(tokenizer: PreTrainedTokenizerBase, before: str, ids: list[int], text: str) -> list[int]:
    """Return the tokens of a text as they follow `before`, whose own are `ids`.

    Where the tokenizer joins the two at the border, the tokens of the text alone.
    """
    together = encoded(tokenizer, before + text)
    if together[: len(ids)] == ids and len(together) > len(ids):
        return together[len(ids) :]
    return encoded(tokenizer, text)
