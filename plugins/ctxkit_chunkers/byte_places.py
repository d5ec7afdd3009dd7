"""Where in the bytes of its text each token of a document ends, told from the vocabulary."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from transformers import PreTrainedTokenizerBase

LATIN = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAC + 1), *range(0xAE, 0xFF + 1)]
"""Bytes that a byte-level vocabulary writes as the character of the same number."""
ALPHABET = {chr(byte) for byte in LATIN} | {chr(256 + number) for number in range(256 - len(LATIN))}
"""One character for each byte, as byte-level BPE writes them (Radford et al. 2019)."""


@dataclass(frozen=True)
class ByteTable:
    """How many bytes each token of a byte-level vocabulary stands for."""

    lengths: NDArray[np.int64]
    """Shape (largest id + 1,); none for special tokens, which stand for no text."""

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase) -> ByteTable:
        """Return the table of a tokenizer; it is right for byte-level vocabularies alone, which `ends` finds out."""
        vocabulary, added = tokenizer.get_vocab(), tokenizer.get_added_vocab()
        lengths = np.zeros(max(vocabulary.values(), default=-1) + 1, dtype=np.int64)
        for token, index in vocabulary.items():
            as_bytes = token not in added and ALPHABET.issuperset(token)
            lengths[index] = len(token) if as_bytes else len(token.encode())
        lengths[list(tokenizer.all_special_ids)] = 0
        return cls(lengths)

    def ends(self, input_ids: NDArray[np.int32], data: bytes) -> NDArray[np.int64] | None:
        """Return after how many bytes each token ends, shape (tokens,), or None where they do not add up to the text.

        `data` is the text as UTF-8. Text that was not valid, or that the tokenizer changed, does not add up.
        """
        ends: NDArray[np.int64] = np.cumsum(self.lengths[input_ids])
        fits = len(ends) > 0 and int(ends[-1]) == len(data)
        return ends if fits else None
