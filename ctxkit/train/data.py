"""From sources to rows: tokenise once, filter, chunk, mix by tokens, pack, with an account of every token."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

from transformers import PreTrainedTokenizerBase

from ctxkit.errors import DataError
from ctxkit.recipe import DataSection
from ctxkit.rundir import write_json
from ctxkit.spec import (
    Context,
    Document,
    EncodedDocument,
    FilterOptions,
    TokenFilter,
    TokenFilterOptions,
)
from ctxkit.train import mixing, rows
from ctxkit.train.blame import Blame, Judge
from ctxkit.train.chunks import Inserted, SourceChunks
from ctxkit.train.documents import Reading, SourceDocuments, Tokenisation
from ctxkit.train.encoding import id_type
from ctxkit.train.keys import DataKeys
from ctxkit.train.ledger import SourceLedger, histogram, names, summary
from ctxkit.train.packing import best_fit
from ctxkit.train.reached import reached
from ctxkit.train.reader import Reader
from ctxkit.train.rows import Prepared, Split, open_rows
from ctxkit.train.samples import Sampler
from ctxkit.train.sharding import merge
from ctxkit.train.tokens import TokenStore


def build_dataset(data: DataSection, context: Context, folder: Path, keys: DataKeys) -> Prepared:
    """Return the training rows of a data section, prepared now or, where whole, as prepared before.

    Args:
        data: The section.
        context: With the tokenizer, and the seed of the stage.
        folder: Where prepared data lies; token stores in `tokens`, rows beside them.
        keys: The names to use.

    Raises:
        DataError: a source has no documents, nothing is left to train on, or more is lost than `max_lost` allows.
    """
    place = folder / keys.rows
    found = open_rows(place)
    if found is not None:
        return found
    temporary = folder / f"{keys.rows}.tmp-new"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    preparation = Preparation(data, context, folder, keys)
    try:
        manifest = preparation.run(temporary)
    finally:
        preparation.close()
    rows.seal(temporary, place, manifest)
    made = open_rows(place)
    if made is None:
        raise DataError(f"the prepared data in {place} cannot be read back", "is the disk full or failing?")
    return made


Numbered = Iterator[tuple[int, EncodedDocument]]
"""Documents with their numbers in the token store."""


class Preparation:
    """One making of rows: open token stores, and what the chunkers made so far."""

    def __init__(self, data: DataSection, context: Context, folder: Path, keys: DataKeys) -> None:
        """Open or make the token store of every source.

        Raises:
            DataError: there is no tokenizer, or it has no end token.
        """
        tokenizer = cast("PreTrainedTokenizerBase", context.tokenizer)
        self.data, self.context = data, context
        self.tokenisation = Tokenisation(tokenizer)
        self.dtype = id_type(tokenizer)
        self.inserted = Inserted(len(data.sources))
        self._keys = keys
        self.sources = open_sources(data, folder / "tokens", keys, self.tokenisation, reading(data, context))
        judges = [options for options in data.filters if isinstance(options, TokenFilterOptions)]
        self._judges: list[TokenFilter] = [Judge[EncodedDocument](options, context) for options in judges]
        self.ledgers = [SourceLedger(source.kind) for source in data.sources]
        self._chunks: dict[str, list[SourceChunks]] = {split: [] for split in rows.SPLITS}

    def run(self, folder: Path) -> dict[str, Any]:
        """Write the rows into a folder; return its manifest.

        Raises:
            DataError: nothing is left to train on, or too much was lost.
        """
        left = self.data.max_tokens
        for index in range(len(self.data.sources)):
            self._read_source(index, mixing.limit(self.data, index, left))
            # With classes of length a source that filled one says nothing of the others.
            if left is not None and not self.data.length_bands:
                left = max(left - self._chunks["train"][-1].trained, 0)
        mix = mixing.choose(self.data, self._chunks["train"])
        train = self._split("train", mix.chosen)
        if not train.rows:
            raise DataError("no training example is left", _explained(self.ledgers))
        self._settle(train.chosen)
        self._refuse_loss()
        splits = {"train": train}
        if self.data.eval is not None:
            everything = [(s, c) for s, chunks in enumerate(self._chunks["eval"]) for c in range(len(chunks))]
            splits["eval"] = self._split("eval", everything)
            if not splits["eval"].rows:
                raise DataError("data.eval sets no document aside", "raise its share, or leave it out")
        for name, split in splits.items():
            split.write(folder / f"{name}.arrow")
        rows.write_inserted(folder, self.inserted, self.dtype)
        shown = Sampler([source.store for source in self.sources], self.inserted, self.tokenisation.spell, self.ledgers)
        write_json(folder / "samples.json", {"samples": shown.samples(splits)})
        summaries = {name: self._summary(splits[name]) if name in splits else None for name in rows.SPLITS}
        return {**self._manifest(summaries), "mix": reached(self.data, self._chunks["train"], names(self.ledgers), mix)}

    def close(self) -> None:
        """Close the token stores; what was tokenised stays."""
        for source in dict.fromkeys(self.sources):
            source.close()

    def _read_source(self, index: int, budget: int | None) -> None:
        """Chunk one source until its chunks train `budget` tokens, or all of it for None."""
        ledger, source = self.ledgers[index], self.sources[index]
        dropped: Counter[str] = Counter()
        reader = Reader(source, self._judges, self.data.eval, self.context.seed, dropped)
        train = self._collect(index, reader.train(), budget, "train")
        most = self.data.eval.max_tokens if self.data.eval else 0
        held_out = self._collect(index, reader.held_out(), most, "eval")
        ledger.documents, ledger.tokens_read = reader.documents, reader.tokens
        ledger.tokens_eval = sum(held_out.kept)
        ledger.dropped_documents = dict(reader.dropped_documents)
        ledger.dropped = dict(dropped + train.dropped + held_out.dropped)
        ledger.document_lengths = histogram(reader.lengths)
        ledger.documents_cut = train.documents_cut
        end = source.store.position if reader.exhausted else reader.position
        skipped, filtered = source.left_out(end + reader.exhausted)
        ledger.skipped, ledger.filtered_documents = dict(skipped), dict(filtered)
        ledger.documents_read = end + skipped.total()
        ledger.special_token_texts = source.store.special_token_texts
        if not ledger.documents_read and budget != 0:
            where = f"data.sources.{index} (kind {ledger.kind})"
            raise DataError(f"{where} yields no documents", "check its paths and patterns")

    def _collect(self, index: int, documents: Numbered, budget: int | None, split: str) -> SourceChunks:
        """Run the chunker over documents and keep its chunks."""
        chunker = self.data.chunkers[index]
        read_ids, positions = self.sources[index].store.read_span, chunker.positions()
        chunks = SourceChunks(index, chunker.length, chunker.kind, read_ids, self.inserted, positions)
        self._chunks[split].append(chunks)
        if budget == 0:
            return chunks
        blame = Blame(chunker, "in build")
        stream = blame.given(self._handed_out(chunks, documents, blame))
        with blame:
            made = chunker.build(replace(self.context, dropped=chunks.drop))(stream)
        blame.place = "before it was given a document"
        full = mixing.Fill(self.data, budget)
        for chunk in self.context.track(blame.items(made), f"data: {self.data.sources[index].kind}", 0):
            chunks.add(chunk)
            if full(chunks.bands[-1], chunks.lengths[-1] - chunks.masked_tokens[-1]):
                return chunks
        chunks.finish(unread=next(stream, None) is not None)
        return chunks

    def _handed_out(self, chunks: SourceChunks, documents: Numbered, blame: Blame) -> Iterator[EncodedDocument]:
        """Yield the documents for a chunker, each remembered with its place in the store."""
        start = self.sources[chunks.source].store.start
        for number, encoded in documents:
            blame.place = f"after it was given document {encoded.document.id!r}"
            yield chunks.hand_out(encoded, start(number))

    def _split(self, split: str, chosen: list[mixing.Chosen]) -> Split:
        sources, packing = self._chunks[split], self.data.packing
        if packing is None:
            return Split(sources, chosen, [[number] for number in range(len(chosen))], document_mask=False)
        lengths = [sources[source].lengths[chunk] for source, chunk in chosen]
        return Split(sources, chosen, best_fit(lengths, self.data.row_length), packing.document_mask)

    def _settle(self, chosen: Sequence[mixing.Chosen]) -> None:
        """Write the sums of the chosen chunks into the ledgers; what else was read was cut off by the mix."""
        for source, chunk in chosen:
            chunks, ledger = self._chunks["train"][source], self.ledgers[source]
            ledger.chunks += 1
            ledger.tokens_kept += chunks.kept[chunk]
            ledger.tokens_repeated += chunks.repeated(chunk)
            ledger.tokens_inserted += chunks.inserted[chunk]
            ledger.tokens_masked += chunks.masked_tokens[chunk]
            ledger.tokens_trained += chunks.lengths[chunk] - chunks.masked_tokens[chunk]
        for ledger in self.ledgers:
            spent = ledger.tokens_kept + sum(ledger.dropped.values()) + ledger.tokens_eval
            ledger.tokens_unused = ledger.tokens_read - spent

    def _refuse_loss(self) -> None:
        read = sum(ledger.tokens_read for ledger in self.ledgers)
        lost = sum(ledger.lost_tokens for ledger in self.ledgers)
        allowed = self.data.max_lost
        unread = sum(ledger.lost_documents for ledger in self.ledgers)
        if allowed == 0 and unread:
            said = f"{unread:,} documents are left out, and data.max_lost allows none"
            raise DataError(said, _explained(self.ledgers))
        if allowed is not None and read and lost / read > allowed:
            raise DataError(
                f"{lost:,} of {read:,} tokens ({lost / read:.1%}) are left out, and data.max_lost allows {allowed:.1%}",
                _explained(self.ledgers),
            )

    def _summary(self, split: Split) -> dict[str, Any]:
        masked = sum(split.sources[source].masked_tokens[chunk] for source, chunk in split.chosen)
        made = summary(split.lengths, masked, len(split.chosen), self.data.row_length, split.difficulty)
        return asdict(made)

    def _manifest(self, summaries: dict[str, Any]) -> dict[str, Any]:
        packing, tokenizer = self.data.packing, self.tokenisation.tokenizer
        stores = [
            {
                "path": f"../tokens/{key}",
                "dtype": source.store.dtype.str,
                "tokens": source.store.tokens,
                "digest": source.store.digest(),
            }
            for key, source in zip(self._keys.stores, self.sources, strict=True)
        ]
        largest = [source.store.largest_id for source in self.sources]
        return {
            "length": self.data.row_length,
            "chunker": ", ".join(dict.fromkeys(chunker.kind for chunker in self.data.chunkers)),
            "positions": "skipped" if self.data.skips else "in a row",
            "packing": {"strategy": "best_fit", "document_mask": packing.document_mask} if packing else None,
            "tokenizer": {"vocab_size": len(tokenizer), "dtype": self.dtype.str},
            "largest_id": max([*largest, *self.inserted.ids], default=0),
            **summaries,
            "sources": [asdict(ledger) for ledger in self.ledgers],
            "stores": stores,
        }


def reading(data: DataSection, context: Context) -> Reading:
    """Return how the documents of a section are read: with its filters of texts."""
    judges = [options for options in data.filters if isinstance(options, FilterOptions)]
    filters = tuple(Judge[Document](options, context) for options in judges)
    return Reading(context, filters, keep_texts=data.keep_left_out)


def open_sources(
    data: DataSection, folder: Path, keys: DataKeys, tokenisation: Tokenisation, reading: Reading
) -> list[SourceDocuments]:
    """Return the sources of a section on their token stores, below a folder; two that read the same share one."""
    dtype = id_type(tokenisation.tokenizer)
    opened: dict[str, SourceDocuments] = {}
    for options, key in zip(data.sources, keys.stores, strict=True):
        if key not in opened:
            merge(folder / key, dtype)
            opened[key] = SourceDocuments(options, TokenStore(folder / key, dtype), tokenisation, reading)
    return [opened[key] for key in keys.stores]


def _explained(ledgers: Sequence[SourceLedger]) -> str:
    parts = []
    for ledger in ledgers:
        documents = {**ledger.skipped, **ledger.filtered_documents}
        said = [f"{reason} ({count} documents)" for reason, count in documents.items()]
        lost = {**ledger.dropped, "set aside for evaluation": ledger.tokens_eval}
        said = [f"{reason} ({count:,} tokens)" for reason, count in lost.items() if count] + said
        parts.append(f"{ledger.kind}: {ledger.documents_read} documents, {', '.join(said) or 'nothing left out'}")
    return "; ".join(parts)
