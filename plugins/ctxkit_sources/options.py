"""The options of each source."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, PositiveInt, field_validator, model_validator

from ctxkit.spec import Context, Document, SourceOptions, SourceSlot

if TYPE_CHECKING:
    from ctxkit_sources.files import Files


class FilesOptions(SourceOptions):
    """Text files matching glob patterns, one document a file."""

    kind: Literal["files"]
    paths: tuple[str, ...] = Field(min_length=1)
    """Glob patterns, relative to the working directory; `**` crosses folders, and `{stdlib}` is the folder of Python's
    own standard library."""
    exclude: tuple[str, ...] = ()
    """Glob patterns of files to leave out; a folder leaves out all below it."""
    shuffle: bool = False
    """Read the files in an order drawn from the seed, rather than by path; matters where only a part is used."""
    encoding: str = "utf-8"
    """How bytes become text; a byte order mark goes."""
    errors: Literal["strict", "skip", "replace"] = "strict"
    """What to do with a file that has other bytes, or cannot be opened: stop and name it, or leave it out and count it;
    `replace` puts U+FFFD in the place of other bytes and else stops."""
    binary: Literal["skip", "keep", "strict"] = "skip"
    """What to do with a file that has a NUL in its first 8 KB: leave it out and count it, read it, or stop."""
    newlines: Literal["normalise", "keep"] = "normalise"
    """Whether CRLF and lone CR become newlines, or stay."""
    max_bytes: PositiveInt | None = None
    """The largest file that is read, in bytes; a larger one is left out and counted. No limit where null."""

    @field_validator("encoding")
    @classmethod
    def _known(cls, encoding: str) -> str:
        try:
            codecs.getincrementaldecoder(encoding)
            b"".decode(encoding)
        except (LookupError, UnicodeError):
            raise ValueError(f"Python knows no encoding {encoding}; such as utf-8, latin-1, utf-16") from None
        return encoding

    def fingerprint(self, context: Context) -> str:
        """Return a hash of the names, sizes and times of the files that match."""
        return self._files(context).fingerprint()

    def build(self, context: Context) -> Iterable[Document]:
        """Return the documents, read as they are asked for; what is left out is reported."""
        return self._files(context)

    def _files(self, context: Context) -> Files:
        from ctxkit_sources.files import Files

        return Files(
            self.paths,
            exclude=self.exclude,
            encoding=self.encoding,
            errors=self.errors,
            newlines=self.newlines,
            binary=self.binary,
            max_bytes=self.max_bytes,
            seed=context.seed if self.shuffle else None,
            skipped=context.skipped,
        )


class HubOptions(SourceOptions):
    """A dataset by datasets' own loaders: from the hub, or local parquet, json, csv, text or arrow files."""

    kind: Literal["hub"]
    path: str
    """Hub name, or the name of a loader (`json`, `parquet`, `csv`, `text`, `arrow`) together with `data_files`."""
    name: str | None = None
    """Configuration of the dataset, as `load_dataset` calls it."""
    data_files: str | tuple[str, ...] | Mapping[str, str] | None = None
    """Files, as `load_dataset` takes them."""
    split: str = "train"
    """Split, slices such as `train[:1%]` included."""
    revision: str | None = None
    """Commit, branch or tag on the hub."""
    streaming: bool = False
    """Read rows as they are needed instead of downloading the whole first."""
    text_column: str = "text"
    """The column that holds the text."""
    id_column: str | None = None
    """The column that names a row; its number unless stated."""

    @model_validator(mode="after")
    def _local(self) -> HubOptions:
        if self.path in LOADERS and self.data_files is None:
            raise ValueError(f"the loader `{self.path}` needs `data_files`")
        return self

    def build(self, context: Context) -> Iterable[Document]:
        """Return one document a row."""
        from ctxkit_sources.hub import Hub

        arguments: dict[str, Any] = {"name": self.name, "revision": self.revision, "streaming": self.streaming}
        if self.data_files is not None:
            arguments["data_files"] = list(self.data_files) if isinstance(self.data_files, tuple) else self.data_files
        return Hub(self.path, self.split, self.text_column, self.id_column, arguments)


LOADERS = ("arrow", "csv", "json", "parquet", "text")


class KeyRecallOptions(SourceOptions):
    """Passages of other documents with one five-digit key stated several times, for recall over a distance."""

    kind: Literal["key_recall"]
    haystack: SourceSlot
    """The source whose text surrounds the keys."""
    documents: PositiveInt
    """How many to make."""
    length: PositiveInt
    """Characters of each document."""
    mentions: int = Field(default=4, ge=2)
    """How often the key is stated in each; every statement after the first can be recalled."""

    @model_validator(mode="after")
    def _roomy(self) -> KeyRecallOptions:
        from ctxkit_sources.key_recall import STATEMENT_LENGTH

        if self.length < self.mentions * STATEMENT_LENGTH:
            raise ValueError(f"{self.mentions} mentions need at least {self.mentions * STATEMENT_LENGTH} characters")
        return self

    def build(self, context: Context) -> Iterable[Document]:
        """Return documents that are the same for the same seed."""
        from ctxkit_sources.key_recall import KeyRecall

        return KeyRecall(
            self.haystack.build(context),
            documents=self.documents,
            length=self.length,
            mentions=self.mentions,
            seed=context.seed,
        )


class RepeatsOptions(SourceOptions):
    """Random segments repeated to the end: the quickest teacher of the attention that copies (induction heads)."""

    kind: Literal["repeats"]
    documents: PositiveInt
    """How many to make."""
    length: PositiveInt
    """Characters of each document."""
    min_period: PositiveInt = 4
    """Characters of the shortest segment."""
    max_period: PositiveInt = 16
    """Characters of the longest segment."""

    @model_validator(mode="after")
    def _ordered(self) -> RepeatsOptions:
        if not self.min_period <= self.max_period <= self.length:
            raise ValueError("needs min_period <= max_period <= length")
        return self

    def build(self, context: Context) -> Iterable[Document]:
        """Return documents that are the same for the same seed."""
        from ctxkit_sources.repeats import Repeats

        return Repeats(
            documents=self.documents,
            length=self.length,
            periods=(self.min_period, self.max_period),
            seed=context.seed,
        )
