"""The documents of one source as they are asked for: from its token store, or read, filtered and tokenised now."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from ctxkit.errors import DataError
from ctxkit.spec import Context, Document, EncodedDocument, Filter, SourceOptions
from ctxkit.train.blame import Blame
from ctxkit.train.chat import chat_ids
from ctxkit.train.encoding import Encoder, special_pattern
from ctxkit.train.tokens import LeftOut, TokenStore

BATCH_DOCUMENTS = 64
"""Documents tokenised at once; more costs memory and gains nothing for long ones."""
BATCH_CHARACTERS = 1 << 20
"""Characters tokenised at once."""
SURROGATE = re.compile("[\ud800-\udfff]")
COMMIT_SECONDS = 20
"""How much work a kill may cost."""


@dataclass
class Tokenisation:
    """How texts become ids; one for all sources that share a tokenizer."""

    tokenizer: PreTrainedTokenizerBase
    encoder: Encoder = field(init=False)

    def __post_init__(self) -> None:
        """Build what is needed for every text.

        Raises:
            DataError: the tokenizer has no end token.
        """
        if self.tokenizer.eos_token_id is None:
            raise DataError(
                "the tokenizer has no end-of-text token", "documents could not be told apart; choose another"
            )
        self.encoder = Encoder(self.tokenizer)
        self.special = special_pattern(self.tokenizer)
        begin, end = self.tokenizer.bos_token_id, self.tokenizer.eos_token_id
        self.begin = np.array([] if begin is None else [begin], dtype=np.int32)
        self.end = np.array([end], dtype=np.int32)

    def spells_special(self, text: str) -> bool:
        """Return whether a text spells a special token, which stays text."""
        return self.special is not None and self.special.search(text) is not None

    def chat(self, document: Document) -> NDArray[np.int32]:
        """Return the ids of a chat.

        Raises:
            DataError: the tokenizer's template is missing or refuses it.
        """
        return chat_ids(self.tokenizer, self.encoder, self.special, document)

    def decode(self, ids: Any) -> str:
        """Return the text of a document's ids, begin and end token left out."""
        return self.spell(ids[len(self.begin) : len(ids) - 1])

    def spell(self, ids: Any) -> str:
        """Return the text of any ids, special tokens spelled out."""
        return cast("str", self.tokenizer.decode(ids, clean_up_tokenization_spaces=False))


@dataclass(frozen=True)
class Reading:
    """How the documents of a source are read."""

    context: Context
    """What sources are built with."""
    filters: tuple[Filter, ...] = ()
    """Judges of texts, as `Judge` makes them; the first that drops one is counted."""
    keep_texts: bool = False
    """Write what a filter drops into the store, text and all."""
    shard: tuple[int, int] = (0, 1)
    """Tokenise only part i of n: every n-th document of the source, from the i-th on."""


@dataclass(frozen=True)
class _Block:
    """A piece of a document's text."""

    document: Document
    position: int
    text: str
    first: bool
    last: bool


class SourceDocuments:
    """Hand out the documents of a source by number; what is not in its store yet is read and put there."""

    def __init__(self, options: SourceOptions, store: TokenStore, tokenisation: Tokenisation, reading: Reading) -> None:
        """Start where the store ends."""
        self.store = store
        self._options, self._tokenisation, self._reading = options, tokenisation, reading
        self._raw: Iterator[Document] | None = None
        self._source: Iterator[Document] | None = None
        self._torn = False
        """Whether a batch was begun and not ended, so that the store holds half of it."""
        self._committed = time.monotonic()

    def get(self, index: int) -> EncodedDocument | None:
        """Return a document by its number, or None after the last.

        Raises:
            DataError: the source cannot be read.
        """
        while index >= len(self.store) and not self.store.exhausted:
            self._read_batch()
        if index >= len(self.store):
            return None
        return self.store.read(index, self._tokenisation.decode)

    def read_all(self) -> Iterator[int]:
        """Read the source to its end; yield how many documents are there after each batch."""
        while not self.store.exhausted:
            self._read_batch()
            yield len(self.store)

    def left_out(self, before: int) -> tuple[Counter[str], Counter[str]]:
        """Return what the source skipped and what filters dropped before one of its documents, by reason."""
        counts: dict[str, Counter[str]] = {"source": Counter(), "filter": Counter()}
        for item in self.store.left_out():
            if item.position < before:
                counts[item.by][item.reason] += 1
        return counts["source"], counts["filter"]

    def close(self) -> None:
        """Keep what was read so far, but for a batch in the middle of which an error or a signal came."""
        if not self._torn and not self.store.committed:
            self.store.commit()
        self.store.close()
        if isinstance(self._source, Generator):
            with Blame(self._options, "as it was closed"):
                self._source.close()  # now, and not when the interpreter ends: it may hold processes and threads

    def _read_batch(self) -> None:
        self._torn = True
        if self._raw is None:
            self._raw = self._resumed()
        batch: list[tuple[Document, int]] = []
        characters = 0
        while len(batch) < BATCH_DOCUMENTS and characters < BATCH_CHARACTERS:
            document = next(self._raw, None)
            if document is None:
                self.store.exhausted = True
                break
            position = self.store.position
            self.store.position += 1
            if position % self._reading.shard[1] != self._reading.shard[0]:
                continue
            judged = (judge(document) for judge in self._reading.filters)
            reason = next((said for said in judged if said is not None), None)
            if reason is None:
                batch.append((document, position))
                characters += len(document.text)
            else:
                kept = document.text if self._reading.keep_texts else None
                self.store.leave_out(LeftOut(position, document.id, reason, "filter"), kept)
        self._append(batch)
        self._torn = False
        if self.store.exhausted or time.monotonic() - self._committed > COMMIT_SECONDS:
            self.store.commit()
            self._committed = time.monotonic()

    def _resumed(self) -> Iterator[Document]:
        """Return the documents of the source after those that the store knows.

        Raises:
            DataError: it has fewer than it had.
        """
        known = self.store.position
        passed = 0

        def skipped(document_id: str, reason: str) -> None:
            if not isinstance(reason, str) or not reason.strip():
                said = f"the source {self._options.kind} skipped {document_id!r} for the reason {reason!r}"
                raise DataError(said, "it must say why in words; this is a fault of its plugin")
            if passed >= known and passed % self._reading.shard[1] == self._reading.shard[0]:
                self.store.leave_out(LeftOut(passed, document_id, reason, "source"))

        blame = Blame(self._options, "before its first document")
        with blame:
            raw = iter(self._options.build(replace(self._reading.context, skipped=skipped)))
        self._source = raw

        def count(document: object) -> Document:
            nonlocal passed
            if not isinstance(document, Document) or not isinstance(document.text, str):
                said = f"the source {self._options.kind} gave {type(document).__name__} after {passed} documents"
                raise DataError(said, "it must give `Document`s with a text; this is a fault of its plugin")
            passed += 1
            blame.place = f"after document {document.id!r}"
            return document

        def counted() -> Iterator[Document]:
            documents = map(count, blame.items(raw))
            if sum(1 for _ in islice(documents, known)) < known:
                raise DataError(
                    f"the source {self._options.kind} has {passed} documents, and had {known} before",
                    "it must give the same documents every time for the same seed",
                )
            # Unlike a loop, this keeps no document that was handed on.
            yield from documents

        return counted()

    def _append(self, batch: list[tuple[Document, int]]) -> None:
        """Tokenise a batch and write it, no more than so many characters at once."""
        blocks: list[_Block] = []
        size = 0
        for block in self._blocks(batch):
            blocks.append(block)
            size += len(block.text)
            if size >= BATCH_CHARACTERS:
                self._write(blocks)
                blocks, size = [], 0
        self._write(blocks)

    def _blocks(self, batch: list[tuple[Document, int]]) -> Iterator[_Block]:
        """Yield the pieces of each text as they are asked for: together they would be a copy of it."""
        for document, position in batch:
            _refuse_surrogates(document)
            texts = iter([""]) if document.messages else self._tokenisation.encoder.blocks(document.text)
            first, text = True, next(texts)
            for following in texts:
                yield _Block(document, position, text, first, last=False)
                first, text = False, following
            yield _Block(document, position, text, first, last=True)

    def _write(self, blocks: list[_Block]) -> None:
        tokenisation = self._tokenisation
        encoded = tokenisation.encoder([block.text for block in blocks]) if blocks else []
        for block, ids in zip(blocks, encoded, strict=True):
            chat = bool(block.document.messages)
            if chat:
                self.store.append_ids(tokenisation.chat(block.document))
            elif block.first:
                self.store.append_ids(tokenisation.begin)
            self.store.append_ids(np.array(ids, dtype=np.int32))
            if block.last:
                if not chat:
                    self.store.append_ids(tokenisation.end)
                self.store.special_token_texts += tokenisation.spells_special(block.document.text)
                self.store.end(block.document, block.position)


def _refuse_surrogates(document: Document) -> None:
    """Refuse half a character, which no tokenizer takes.

    Raises:
        DataError: the text holds one.
    """
    found = None if document.text.isascii() else SURROGATE.search(document.text)
    if found:
        said = f"{document.id!r} holds half a character (U+{ord(found[0]):04X}) at {found.start()}"
        raise DataError(said, "the source that gave it must leave it out or replace it")
