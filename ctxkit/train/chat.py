"""Chats to token ids: the template's own tokens are control tokens, what people wrote never is."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from jinja2 import TemplateError
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from ctxkit.errors import DataError
from ctxkit.spec import Document
from ctxkit.train.encoding import Encoder

MARK = "\ue000{}\ue001"
"""Stands for something while the template is rendered: private-use characters, which none touches."""
FOUND = re.compile("\ue000([0-9]+)\ue001")

Special = re.Pattern[str] | None
"""Finds the special tokens of a tokenizer spelled out in a text."""


def chat_ids(
    tokenizer: PreTrainedTokenizerBase, encoder: Encoder, special: Special, document: Document
) -> NDArray[np.int32]:
    """Return the ids of a chat by the tokenizer's template, an end token put at its end where the template has none.

    They are those of `apply_chat_template`, but that a special token which a turn spells stays text: a mark stands for
    it while the template is rendered.

    Raises:
        DataError: the tokenizer has no chat template, or the template refuses the chat or leaves a turn out.
    """
    _refuse_lost_turns(tokenizer, document)
    hidden: list[str] = []
    turns = [{**turn, "content": _hide(turn["content"], special, hidden)} for turn in document.messages]
    text = _rendered(tokenizer, document, turns)
    if hidden:
        ids = [index for part in _parts(tokenizer, encoder, special, text, hidden) for index in part]
    else:
        found: Any = tokenizer(text, add_special_tokens=False, split_special_tokens=False, verbose=False)
        ids = list(found["input_ids"])
    if tokenizer.eos_token_id not in ids[-2:]:
        ids.append(tokenizer.eos_token_id)
    return np.array(ids, dtype=np.int32)


def _refuse_lost_turns(tokenizer: PreTrainedTokenizerBase, document: Document) -> None:
    marked = [{**turn, "content": MARK.format(number)} for number, turn in enumerate(document.messages)]
    found = FOUND.findall(_rendered(tokenizer, document, marked))
    if sorted(map(int, found)) != list(range(len(marked))):
        raise DataError(f"the chat template leaves out or repeats turns of {document.id}", "see its `chat_template`")


def _hide(content: str, special: Special, hidden: list[str]) -> str:
    """Return a content with a mark for each special token that it spells; what was there is added to `hidden`."""

    def mark(match: re.Match[str]) -> str:
        hidden.append(match[0])
        return MARK.format(len(hidden) - 1)

    # Before the marks of our own come in, those that somebody wrote go.
    pattern = f"[{MARK[0]}{MARK[-1]}]" + (f"|{special.pattern}" if special else "")
    return re.sub(pattern, mark, content)


def _parts(
    tokenizer: PreTrainedTokenizerBase, encoder: Encoder, special: Special, text: str, hidden: Sequence[str]
) -> Iterator[list[int]]:
    """Yield the ids of a rendered template: its special tokens, and the texts between them with what was hidden."""
    end = 0
    for match in special.finditer(text) if special else ():
        yield from _texts(encoder, text[end : match.start()], hidden)
        control: Any = tokenizer.convert_tokens_to_ids(match[0])
        yield [control]
        end = match.end()
    yield from _texts(encoder, text[end:], hidden)


def _texts(encoder: Encoder, text: str, hidden: Sequence[str]) -> list[list[int]]:
    return encoder([FOUND.sub(lambda match: hidden[int(match[1])], text)]) if text else []


def _rendered(tokenizer: PreTrainedTokenizerBase, document: Document, turns: list[dict[str, str]]) -> str:
    if not tokenizer.chat_template:
        raise DataError("the source gives chats, and the tokenizer has no chat template", "choose an instruct model's")
    try:
        return str(tokenizer.apply_chat_template(turns, tokenize=False))
    except (TemplateError, TypeError, KeyError) as error:
        said = " ".join(str(error).split())
        raise DataError(f"the chat template refuses {document.id}: {said}", "are its roles those it knows?") from error
