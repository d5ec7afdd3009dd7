"""Tokens of documents counted exactly, as training encodes them."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from ctxkit.errors import DataError
from ctxkit.spec import Document
from ctxkit.train.chat import chat_ids
from ctxkit.train.documents import Tokenisation
from ctxkit.train.model import refusal
from ctxkit.train.templates import check_template


class TokenCounter:
    """Count the tokens of documents, the begin and end tokens that each gets in training included."""

    def __init__(self, name: str) -> None:
        """Load a tokenizer from a folder or by its name on the hub.

        Raises:
            DataError: it cannot be loaded, or has no end token.
        """
        try:
            tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
        except Exception as error:
            raise DataError(f"the tokenizer {name} cannot be loaded: {refusal(error)}") from error
        check_template(tokenizer, name)
        self.name = f"counted by {name}"
        self._how = Tokenisation(tokenizer)

    def __call__(self, documents: Sequence[Document]) -> Sequence[int]:
        """Return the tokens of each document.

        Raises:
            DataError: a chat, and the tokenizer's template cannot write it.
        """
        counts = [self._chat(document) if document.messages else self._ends for document in documents]
        blocks = [(number, text) for number, item in enumerate(documents) for text in self._blocks(item)]
        encoded = self._how.encoder([text for _, text in blocks]) if blocks else []
        for (number, _), ids in zip(blocks, encoded, strict=True):
            counts[number] += len(ids)
        return counts

    @property
    def _ends(self) -> int:
        return len(self._how.begin) + len(self._how.end)

    def _chat(self, document: Document) -> int:
        return len(chat_ids(self._how.tokenizer, self._how.encoder, self._how.special, document))

    def _blocks(self, document: Document) -> list[str]:
        return [] if document.messages else list(self._how.encoder.blocks(document.text))
