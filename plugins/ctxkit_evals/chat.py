"""What a chat template writes around a task."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ctxkit.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MARK = "WHAT-THE-USER-SAYS"
"""What is put into a chat template to see what it writes around it."""


def chat_frame(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """Return the tokens that the chat template writes before what a user says, and after it up to the answer.

    Raises:
        DataError: the tokenizer has no chat template, or one that writes what is said more or less than once.
    """
    head, tail = (
        tokenizer(part, add_special_tokens=False, verbose=False)["input_ids"] for part in chat_texts(tokenizer)
    )
    return head, tail


def chat_texts(tokenizer: PreTrainedTokenizerBase) -> tuple[str, str]:
    """Return what the chat template writes before what a user says, and after it up to the answer.

    Raises:
        DataError: as `chat_frame`.
    """
    if not tokenizer.chat_template:
        raise DataError("`chat: true`, and the tokenizer has no chat template", "leave `chat` out")
    turns = [{"role": "user", "content": MARK}]
    parts = str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)).split(MARK)
    if len(parts) != 2:
        raise DataError(f"the chat template writes what a user says {len(parts) - 1} times", "leave `chat` out")
    return parts[0], parts[1]
