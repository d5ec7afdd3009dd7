"""What tests of the data path start from: tokenizers, sources and chunkers of plain values, one call to prepare."""

from __future__ import annotations

import copy
import functools
import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from ctxkit.recipe import DataSection
from ctxkit.spec import Chunk, ChunkerOptions, Context, Document, EncodedDocument, SourceOptions
from ctxkit.train import documents
from ctxkit.train.data import build_dataset
from ctxkit.train.encoding import Encoder
from ctxkit.train.keys import DataKeys, data_keys
from ctxkit.train.rows import Prepared
from ctxkit_chunkers.options import OverlapOptions


def byte_tokenizer(*, bos: bool = False) -> PreTrainedTokenizerFast:
    """One token a byte, with an end token that texts may try to forge; each caller's own, tokens may be added to it."""
    return copy.deepcopy(_trained(bos=bos))


@functools.cache
def _trained(*, bos: bool) -> PreTrainedTokenizerFast:
    built = Tokenizer(models.BPE())
    built.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    built.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<eos>", "<bos>"]
    built.train_from_iterator(
        [], trainers.BpeTrainer(vocab_size=258, special_tokens=special, initial_alphabet=alphabet)
    )
    begin = {"bos_token": "<bos>"} if bos else {}
    return PreTrainedTokenizerFast(tokenizer_object=built, eos_token="<eos>", **begin)


class Texts(SourceOptions):
    """Documents that are stated one by one."""

    kind: Literal["texts"] = "texts"
    texts: tuple[str, ...] = ()
    lengths: tuple[int, ...] = ()
    """Instead of texts: documents of so many characters, each of another letter pattern."""
    groups: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()
    bad: tuple[int, ...] = ()
    """Something is skipped before each of these documents."""
    given: ClassVar[list[str]] = []
    """The ids of all documents that were handed out."""
    fewer: ClassVar[int] = 0
    """So many documents are missing at the end."""

    def build(self, context: Context) -> Iterator[Document]:
        """Yield the documents."""
        texts = self.texts or tuple(written(number, length) for number, length in enumerate(self.lengths))
        for number, text in enumerate(texts[: len(texts) - Texts.fewer]):
            for _ in range(self.bad.count(number)):
                context.skipped(f"bad/{number}", "is bad")
            name = self.ids[number] if self.ids else f"text/{number}"
            Texts.given.append(name)
            yield Document(text, name, group=self.groups[number] if self.groups else "", order=number)
        for _ in range(self.bad.count(len(texts))):
            context.skipped("bad/last", "is bad at the end")


class Chats(SourceOptions):
    """Chats that are stated one by one."""

    kind: Literal["chats"] = "chats"
    chats: tuple[tuple[tuple[str, str], ...], ...]
    """Turns of role and content."""

    def build(self, context: Context) -> Iterator[Document]:
        """Yield the documents."""
        for number, turns in enumerate(self.chats):
            messages = tuple({"role": role, "content": content} for role, content in turns)
            yield Document("\n".join(content for _, content in turns), f"chat/{number}", messages=messages)


class Scripted(ChunkerOptions):
    """Makes what a function of a test says."""

    kind: Literal["scripted"] = "scripted"
    tokens: tuple[str, ...] = ()
    made: ClassVar[Callable[[Context, Iterable[EncodedDocument]], Iterator[Chunk]]]

    def special_tokens(self, vocabulary: Any) -> tuple[str, ...]:
        """Return those stated."""
        return self.tokens

    def build(self, context: Context) -> Callable[[Iterable[EncodedDocument]], Iterator[Chunk]]:
        """Return the function."""
        return lambda documents: type(self).made(context, documents)


def written(number: int, length: int) -> str:
    """Return a text of so many characters that differs from document to document."""
    return "".join(chr(97 + (number * 7 + place * (number + 1)) % 26) for place in range(length))


def section(*sources: object, length: int = 16, overlap: int = 0, **more: object) -> DataSection:
    """A data section with the overlap chunker unless another is stated."""
    more.setdefault("chunker", OverlapOptions(kind="overlap", length=length, overlap=overlap))
    return DataSection(sources=sources, **more)


def keys_of(data: DataSection, context: Context, folder: Path) -> DataKeys:
    """Return the names of prepared data, the tokenizer saved in a folder beside it."""
    tokenizer = folder / "tokenizer"
    if not tokenizer.exists():
        context.tokenizer.save_pretrained(tokenizer)
    return data_keys(data, context, tokenizer)


def prepare(
    data: DataSection, folder: Path, tokenizer: PreTrainedTokenizerBase | None = None, seed: int = 0, **more: Any
) -> Prepared:
    """Return the rows of a data section, prepared below a folder as a run directory holds them."""
    context = Context(seed=seed, tokenizer=tokenizer or byte_tokenizer(), **more)
    with pytest.MonkeyPatch.context() as patch:
        # Trying cuts on a sample takes longer than the rest of a small preparation, and so does waiting for the disk.
        patch.setattr(documents, "Encoder", _encoder)
        patch.setattr(os, "fsync", lambda _: None)
        return build_dataset(data, context, folder / "data", keys_of(data, context, folder))


_encoder = functools.cache(Encoder)


def ids_of(prepared: Prepared) -> list[list[int]]:
    """Return the ids of every training row."""
    return [row["input_ids"].tolist() for row in prepared.train]


def rows_folder(folder: Path) -> Path:
    """Return the one folder of rows."""
    (manifest,) = (folder / "data").glob("*/manifest.json")
    return manifest.parent


def store_folder(folder: Path) -> Path:
    """Return the one token store."""
    (journal,) = (folder / "data/tokens").glob("*/journal.json")
    return journal.parent


def samples_of(folder: Path) -> list[dict[str, Any]]:
    """Return the samples beside the one folder of rows."""
    return json.loads((rows_folder(folder) / "samples.json").read_text())["samples"]


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def encoded(ids: Iterable[int], name: str = "d") -> EncodedDocument:
    """Return a document of ids."""
    return EncodedDocument(Document("", name), np.array(list(ids), dtype=np.int32))
