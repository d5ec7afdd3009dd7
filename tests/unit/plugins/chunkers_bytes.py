"""A tokenizer with a token for each byte, and documents of it, for the tests of the chunkers."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ctxkit.spec import Chunk, Document, EncodedDocument

BEGIN, END = "<s>", "</s>"
TOKENS = ("<|FILE_START|>", "<|FILE_END|>", "<|COMMIT_START|>", "<|COMMIT_END|>")


class Bytes:
    """A tokenizer of 256 bytes, begin, end, and more special tokens; ids below 256 are the bytes."""

    def __init__(self, *special: str, begin: bool = True) -> None:
        """Give special tokens the ids from 256 on."""
        names = (*((BEGIN,) if begin else ()), END, *(special or TOKENS))
        self.special = {token: 256 + number for number, token in enumerate(names)}
        self.bos_token_id = self.special.get(BEGIN)
        self.eos_token_id = self.special[END]
        self.all_special_ids = list(self.special.values())
        printed = [*range(33, 127), *range(161, 173), *range(174, 256)]
        others = [byte for byte in range(256) if byte not in printed]
        self.letters = {byte: chr(byte) for byte in printed}
        self.letters |= {byte: chr(256 + number) for number, byte in enumerate(others)}
        self.bytes = {letter: byte for byte, letter in self.letters.items()}

    def get_vocab(self) -> dict[str, int]:
        """Return token to id."""
        return {**self.bytes, **self.special}

    def get_added_vocab(self) -> dict[str, int]:
        """Return the special tokens."""
        return self.special

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        """Return what byte-level tokens decode to."""
        return bytes(self.bytes[token] for token in tokens if token in self.bytes).decode(errors="replace")

    def __call__(self, text: str, **said: bool) -> dict[str, list[int]]:
        """Return the bytes; whoever asks must have special tokens split."""
        assert said["split_special_tokens"]
        assert not said["add_special_tokens"]
        return {"input_ids": list(text.encode())}

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text, special tokens by their names."""
        names = {index: token for token, index in self.special.items()}
        pieces = (names[int(index)].encode() if int(index) in names else bytes([int(index)]) for index in ids)
        return b"".join(pieces).decode()

    def document(self, text: str, name: str = "d", group: str = "", **metadata: str) -> EncodedDocument:
        """Return a document as the core encodes it: begin token, text, end token."""
        begin = [] if self.bos_token_id is None else [self.bos_token_id]
        ids = [*begin, *text.encode(), self.eos_token_id]
        return EncodedDocument(Document(text, name, group, metadata=metadata), np.array(ids, dtype=np.int32))


def trained(chunk: Chunk) -> list[int]:
    """Return the places of a chunk that are not masked."""
    masked = {place for start, end in ((0, chunk.context_length), *chunk.masked) for place in range(start, end)}
    return [place for place in range(len(chunk.input_ids)) if place not in masked]
