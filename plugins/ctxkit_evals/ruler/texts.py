"""Text to tokens: what a tokenizer counts, the frame of its chat template, and the words of the user's documents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ctxkit.errors import DataError
from ctxkit_evals.chat import chat_texts
from ctxkit_evals.ruler.drawing import Frame

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from transformers import PreTrainedTokenizerBase

    from ctxkit.spec import Document


@dataclass(frozen=True)
class Texts:
    """A tokenizer as RULER uses it: prompts are counted without the tokens that it adds, and read with them."""

    tokenizer: PreTrainedTokenizerBase
    chat: bool
    """Whether prompts have the frame of the chat template, with its special tokens; nothing more is added then."""

    def count(self, text: str) -> int:
        """Return the tokens of a prompt."""
        return len(self._encoded(text, added=False))

    def ids(self, text: str) -> list[int]:
        """Return the tokens that the model reads: with a begin token, where the tokenizer adds one."""
        ids = self._encoded(text, added=not self.chat)
        # A prompt that ends its text asks for nothing.
        return ids[:-1] if not self.chat and ids[-1] == self.tokenizer.eos_token_id else ids

    def text(self, ids: Sequence[int]) -> str:
        """Return what was written."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))

    def frame(self) -> Frame:
        """Return what stands around a task.

        Raises:
            DataError: the tokenizer has no chat template, or one that is not for questions of a user.
        """
        return Frame(*chat_texts(self.tokenizer)) if self.chat else Frame()

    def words(self, documents: Iterable[Document], wanted: int) -> list[str]:
        """Return the words of documents, in their order, until there are so many.

        Raises:
            DataError: there is none, or one would become a special token within a chat.
        """
        found: list[str] = []
        for document in documents:
            if len(found) > wanted:
                break
            found += document.text.split()
            self._check(document)
        if not found:
            raise DataError("the haystack holds no text", "choose another source for `haystack`")
        return found

    def _check(self, document: Document) -> None:
        special = next((token for token in self.tokenizer.all_special_tokens if token in document.text), None)
        if self.chat and special:
            raise DataError(
                f"document {document.id} of the haystack holds the special token {special}, which would end or "
                "change the chat",
                "leave the document out of `haystack`",
            )

    def _encoded(self, text: str, *, added: bool) -> list[int]:
        encoded: Any = self.tokenizer(text, add_special_tokens=added, split_special_tokens=not self.chat, verbose=False)
        ids: list[int] = encoded["input_ids"]
        return ids
