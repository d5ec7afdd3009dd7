"""How examples of several parts are written: special tokens as ids, names as text in which no token can hide."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ctxkit.errors import CtxkitError, ExitCode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray
    from transformers import PreTrainedTokenizerBase

    from ctxkit.spec import EncodedDocument
    from ctxkit_chunkers.layouts import Layout


class Markup:
    """Writes what stands between the contents of an example, as token ids."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, layout: Layout, limit: int) -> None:
        """Look the special tokens up.

        Args:
            tokenizer: The one that encoded the documents.
            layout: What is written where.
            limit: Tokens in the longest opening, and in the longest header; longer names are shortened.

        Raises:
            CtxkitError: the tokenizer lacks a special token of the layout.
        """
        self._tokenizer = tokenizer
        self._layout = layout
        self._limit = limit
        self._ids = {token: _special(tokenizer, token) for token in layout.tokens}
        self.edges = Edges.of(tokenizer)
        self.footer = self._rendered(layout.footer, {})

    def opening(self, name: str) -> NDArray[np.int32]:
        """Return what an example begins with: the begin token if there is one, and the name if there is one."""
        named = self._shortened(self._layout.opening, {"name": name}) if name else _array([])
        return np.concatenate([self.edges.begin, named])

    def header(self, fields: Mapping[str, str], *, first: bool) -> NDArray[np.int32]:
        """Return what stands before a part; `first` if no other part stands before it in the example."""
        alone = self._layout.first_header
        return self._shortened(alone if first and alone is not None else self._layout.header, fields)

    def _shortened(self, template: tuple[str, ...], fields: Mapping[str, str]) -> NDArray[np.int32]:
        """Halve the longest field until the template fits; a path keeps its end, other fields their front."""
        fields = {key: value.replace("\n", " ").replace("\r", " ") for key, value in fields.items()}
        while len(ids := self._rendered(template, fields)) > self._limit and any(fields.values()):
            longest = max(fields, key=lambda key: len(fields[key]))
            value, keep = fields[longest], len(fields[longest]) // 2
            fields[longest] = value[len(value) - keep :] if longest == "path" else value[:keep]
        return ids

    def _rendered(self, template: tuple[str, ...], fields: Mapping[str, str]) -> NDArray[np.int32]:
        ids: list[int] = []
        for part in template:
            special = self._ids.get(part)
            ids += [special] if special is not None else text_ids(self._tokenizer, part.format(**fields))
        return _array(ids)


@dataclass(frozen=True)
class Edges:
    """The begin and the end token, each alone, or nothing where the tokenizer has none."""

    begin: NDArray[np.int32]
    end: NDArray[np.int32]

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase) -> Edges:
        """Return those of a tokenizer."""
        begin, end = tokenizer.bos_token_id, tokenizer.eos_token_id
        return cls(_array([] if begin is None else [begin]), _array([] if end is None else [end]))

    def within(self, document: EncodedDocument) -> tuple[int, int]:
        """Return start and end of the text of a document, which its begin and end tokens surround."""
        ids = document.input_ids
        start = int(len(ids) > 0 and len(self.begin) > 0 and ids[0] == self.begin[0])
        end = len(ids) - int(len(ids) > start and len(self.end) > 0 and ids[-1] == self.end[0])
        return start, end


def text_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Return a text as ids, special tokens in it split into ordinary ones."""
    ids: list[int] = tokenizer(text, add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"]
    return ids


def _special(tokenizer: PreTrainedTokenizerBase, token: str) -> int:
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    if token not in vocabulary:
        raise CtxkitError(
            f"the tokenizer has no token {token}",
            "add it as a special token, or choose another `format`",
            exit_code=ExitCode.RECIPE,
        )
    return vocabulary[token]


def _array(ids: list[int]) -> NDArray[np.int32]:
    return np.array(ids, dtype=np.int32)
