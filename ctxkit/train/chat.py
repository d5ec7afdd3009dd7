"""Chats to token ids: the template's own tokens are control tokens, what people wrote never is."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from jinja2 import TemplateError
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from ctxkit.errors import DataError
from ctxkit.spec import Document
from ctxkit.train.encoding import Encoder

MARK = "\ue000{}\ue001"
"""Stands for the content of a turn while the template is rendered: private-use characters, which none touches."""
FOUND = re.compile("\ue000([0-9]+)\ue001")


def chat_ids(tokenizer: PreTrainedTokenizerBase, encoder: Encoder, document: Document) -> NDArray[np.int32]:
    """Return the ids of a chat by the tokenizer's template, an end token put at its end where the template has none.

    The template is rendered with a mark for each content, and the contents are encoded apart, with special tokens
    split: a turn that spells one stays text.

    Raises:
        DataError: the tokenizer has no chat template, or the template refuses the chat or leaves a turn out.
    """
    marked = [{**turn, "content": MARK.format(number)} for number, turn in enumerate(document.messages)]
    parts = FOUND.split(_rendered(tokenizer, document, marked))
    ids: list[int] = []
    for number, part in enumerate(parts):
        if number % 2:
            ids += encoder([document.messages[int(part)]["content"]])[0]
        elif part:
            template: Any = tokenizer(part, add_special_tokens=False, split_special_tokens=False)
            ids += template["input_ids"]
    if sorted(map(int, parts[1::2])) != list(range(len(marked))):
        raise DataError(f"the chat template leaves out or repeats turns of {document.id}", "see its `chat_template`")
    if tokenizer.eos_token_id not in ids[-2:]:
        ids.append(tokenizer.eos_token_id)
    return np.array(ids, dtype=np.int32)


def _rendered(tokenizer: PreTrainedTokenizerBase, document: Document, turns: list[dict[str, str]]) -> str:
    if not tokenizer.chat_template:
        raise DataError("the source gives chats, and the tokenizer has no chat template", "choose an instruct model's")
    try:
        return str(tokenizer.apply_chat_template(turns, tokenize=False))
    except (TemplateError, TypeError, KeyError) as error:
        said = " ".join(str(error).split())
        raise DataError(f"the chat template refuses {document.id}: {said}", "are its roles those it knows?") from error
