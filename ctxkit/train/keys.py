"""The names of prepared data: each a hash of all that determines what is in it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ctxkit.identity import used
from ctxkit.provenance import source_hash
from ctxkit.recipe import DataSection
from ctxkit.spec import Component, Context, FilterOptions, SourceOptions
from ctxkit.train import rows, tokens
from ctxkit.train.blame import Blame


@dataclass(frozen=True)
class DataKeys:
    """The names of the folders for prepared data, each a hash of all that determines what is in it."""

    rows: str
    stores: tuple[str, ...]
    """One a source."""


def data_keys(data: DataSection, context: Context, tokenizer_folder: Path) -> DataKeys:
    """Return the keys of a data section: options, source code, fingerprints of the sources, tokenizer, seed, format.

    Raises:
        DataError: a source cannot be found.
    """
    tokenizer = hashlib.sha256()
    for file in sorted(path for path in tokenizer_folder.iterdir() if path.is_file()):
        tokenizer.update(file.name.encode() + b"\0" + file.read_bytes())
    filters = [options for options in data.filters if isinstance(options, FilterOptions)]
    texts = [_described(options) for options in filters]
    stores = tuple(
        _key(
            tokens.FORMAT,
            tokenizer.hexdigest(),
            context.seed if _use_seed(source, *filters) else None,
            _described(source.model_copy(update={"weight": None, "max_tokens": None, "chunker": None})),
            fingerprints(source, context),
            texts,
            data.keep_left_out,
        )
        for source in data.sources
    )
    parts = [[_described(part), fingerprints(part, context)] for part in (*data.filters, *data.chunkers)]
    return DataKeys(_key(rows.FORMAT, stores, context.seed, data.model_dump(mode="json"), parts), stores)


def _described(options: Component) -> list[Any]:
    """Return what of a component decides on its outcome: its options, and the source code behind it."""
    return [options.model_dump(mode="json"), *(source_hash(type(part)) for part in used(options))]


def _use_seed(*options: Component) -> bool:
    """Return whether the documents depend on the seed of the stage, through a component or one inside of it."""
    parts = (part for each in options for part in used(each))
    return any(part.uses_seed() for part in parts if isinstance(part, SourceOptions | FilterOptions))


def fingerprints(options: Component, context: Context) -> list[str]:
    """Return the fingerprint of a source, and of those inside a component, such as a haystack or what may not leak."""
    return [_fingerprint(part, context) for part in used(options) if isinstance(part, SourceOptions)]


def _fingerprint(source: SourceOptions, context: Context) -> str:
    with Blame(source, "in fingerprint"):
        return source.fingerprint(context)


def _key(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]
