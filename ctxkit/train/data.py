"""From documents to a dataset: filter, tokenise, chunk, mix by tokens, with a ledger of where every token went."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import cast

import numpy as np
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from ctxkit.errors import DataError
from ctxkit.recipe import DataSection
from ctxkit.spec import Context, Document, EncodedDocument, Filter, SourceOptions
from ctxkit.train import store
from ctxkit.train.store import Manifest, SourceLedger, SourceWriter

BATCH_DOCUMENTS = 64
"""Documents tokenised at once; more costs memory and gains nothing for long ones."""


def data_key(data: DataSection, tokenizer_folder: Path, components: dict[str, str], seed: int) -> str:
    """Return the name of the folder for prepared data: a hash of all that determines its content."""
    digest = hashlib.sha256()
    used = {"data": data.model_dump(mode="json"), "components": components, "seed": seed, "format": store.FORMAT}
    digest.update(json.dumps(used, sort_keys=True).encode())
    for file in sorted(tokenizer_folder.glob("*.json")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def build_dataset(data: DataSection, context: Context, folder: Path) -> Dataset:
    """Return the training examples of a data section, prepared now or, where whole, as prepared before.

    Raises:
        DataError: a source has no documents, or nothing is left to train on.
    """
    found = store.open_dataset(folder)
    if found is not None:
        return found
    for left in folder.parent.glob(f"{folder.name}.tmp-*"):
        shutil.rmtree(left)
    temporary = folder.with_name(f"{folder.name}.tmp-new")
    temporary.mkdir(parents=True)
    writers = _prepare_all(data, context, temporary)
    budgets = _budgets(data, [sum(writer.trained) for _, writer in writers])
    rows = [_rows_within(writer.trained, budget) for (_, writer), budget in zip(writers, budgets, strict=True)]
    ledgers = [_settled(ledger, writer, used) for (ledger, writer), used in zip(writers, rows, strict=True)]
    longest = max(max(writer.lengths[:used], default=0) for (_, writer), used in zip(writers, rows, strict=True))
    manifest = Manifest(sum(ledger.tokens_trained for ledger in ledgers), sum(rows), longest, tuple(ledgers))
    if manifest.chunks == 0:
        raise DataError("no training example is left", _explained(ledgers))
    store.seal(temporary, folder, manifest, rows)
    dataset = store.open_dataset(folder)
    if dataset is None:
        raise DataError(f"the prepared data in {folder} cannot be read back", "is the disk full or failing?")
    return dataset


def filtered(documents: Iterable[Document], filters: list[Filter], counts: Counter[str]) -> Iterator[Document]:
    """Yield the documents that every filter keeps; count the others by the reason of the first that dropped them."""
    for document in documents:
        reason = next((said for judge in filters if (said := judge(document)) is not None), None)
        if reason is None:
            yield document
        elif isinstance(reason, str):
            counts[reason] += 1
        else:
            raise DataError(f"a filter answered {reason!r}", "None keeps a document, a text says why it goes")


def encoded(documents: Iterable[Document], tokenizer: PreTrainedTokenizerBase) -> Iterator[EncodedDocument]:
    """Yield documents with their ids: begin token if there is one, the text with special tokens split, end token."""
    begin = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    end = [tokenizer.eos_token_id]
    iterator = iter(documents)
    while batch := list(islice(iterator, BATCH_DOCUMENTS)):
        texts = [document.text for document in batch]
        ids = tokenizer(
            texts, add_special_tokens=False, split_special_tokens=True, return_attention_mask=False, verbose=False
        )
        for document, text_ids in zip(batch, ids["input_ids"], strict=True):
            yield EncodedDocument(document, np.array([*begin, *text_ids, *end], dtype=np.int32))


def _prepare_all(data: DataSection, context: Context, folder: Path) -> list[tuple[SourceLedger, SourceWriter]]:
    """Write the chunks of every source, reading none further than its share of `max_tokens`."""
    shares = _shares(data)
    written: list[tuple[SourceLedger, SourceWriter]] = []
    left = data.max_tokens
    for index, source in enumerate(data.sources):
        budget = int(data.max_tokens * shares[index]) if shares and data.max_tokens else left
        written.append(_prepare(source, index, data, context, folder / f"{index:03d}.arrow", budget))
        if left is not None:
            left = max(left - sum(written[-1][1].trained), 0)
    return written


def _prepare(
    source: SourceOptions, index: int, data: DataSection, context: Context, path: Path, budget: int | None
) -> tuple[SourceLedger, SourceWriter]:
    """Write the chunks of one source until they train `budget` tokens, or all for None."""
    ledger, writer = SourceLedger(kind=source.kind), SourceWriter(path)
    dropped, counts = Counter[str](), Counter[str]()
    own = replace(context, dropped=lambda _document, tokens, reason: dropped.update({reason: tokens}))
    documents = filtered(source.build(own), [cast("Filter", options.build(own)) for options in data.filters], counts)
    stream = data.chunker.build(own)(_counted(encoded(documents, _tokenizer(context)), ledger))
    chunks = iter(context.track(stream, f"data: {source.kind}", 0))
    exhausted, trained = False, 0
    while not exhausted and (budget is None or trained < budget):
        chunk = next(chunks, None)
        exhausted = chunk is None
        if chunk is not None:
            writer.write(chunk)
            trained += writer.trained[-1]
    writer.close()
    if ledger.documents == 0 and not counts and budget != 0:
        raise DataError(
            f"data.sources.{index} (kind {ledger.kind}) yields no documents", "check its paths and patterns"
        )
    lost = ledger.tokens_read - sum(writer.first) - sum(dropped.values())
    if exhausted and lost:
        raise DataError(
            f"the chunker {data.chunker.kind} left out {lost} of {ledger.tokens_read} tokens without saying so",
            "what it leaves out it must pass to context.dropped",
        )
    ledger.dropped, ledger.filtered_documents = dict(dropped), dict(counts)
    return ledger, writer


def _counted(documents: Iterable[EncodedDocument], ledger: SourceLedger) -> Iterator[EncodedDocument]:
    seen: set[str] = set()
    for encoded_document in documents:
        ledger.documents += 1
        ledger.tokens_read += len(encoded_document.input_ids)
        document = encoded_document.document
        if document.id in seen:
            # Spans name documents by their ids, and the ledger counts by spans.
            document = replace(document, id=f"{document.id}#{ledger.documents}")
        seen.add(document.id)
        yield replace(encoded_document, document=document)


def _shares(data: DataSection) -> list[float]:
    """Return each source's share of the trained tokens by its weight, or nothing where there are no weights."""
    weights = [source.weight for source in data.sources if source.weight is not None]
    return [weight / sum(weights) for weight in weights] if len(weights) == len(data.sources) else []


def _budgets(data: DataSection, available: list[int]) -> list[int | None]:
    """Return how many of the available tokens each source may train; None means all.

    With weights the mix holds exactly, up to one chunk: as many tokens as the scarcest source allows, or `max_tokens`.
    """
    shares = _shares(data)
    if not shares:
        return [None] * len(available)
    totals = [tokens / share for tokens, share in zip(available, shares, strict=True)]
    total = min(*totals, data.max_tokens) if data.max_tokens else min(totals)
    return [int(total * share) for share in shares]


def _rows_within(trained: list[int], budget: int | None) -> int:
    """Return how many chunks fit a budget; the one that crosses it counts, so that a source is never left out."""
    if budget is None:
        return len(trained)
    total = 0
    for rows, tokens in enumerate(trained):
        if total >= budget:
            return rows
        total += tokens
    return len(trained)


def _settled(ledger: SourceLedger, writer: SourceWriter, rows: int) -> SourceLedger:
    """Return a ledger with its sums; what was read and neither trained nor dropped was cut off by the mix."""
    trained, first = sum(writer.trained[:rows]), sum(writer.first[:rows])
    return replace(
        ledger,
        chunks=rows,
        tokens_trained=trained,
        tokens_context=sum(writer.context[:rows]),
        tokens_repeated=trained - first,
        tokens_unused=ledger.tokens_read - first - sum(ledger.dropped.values()),
    )


def _explained(ledgers: list[SourceLedger]) -> str:
    parts = []
    for ledger in ledgers:
        reasons = {**ledger.filtered_documents, **ledger.dropped}
        said = ", ".join(f"{reason} ({count})" for reason, count in reasons.items()) or "every document is empty"
        parts.append(f"{ledger.kind}: {ledger.documents} documents, {said}")
    return "; ".join(parts)


def _tokenizer(context: Context) -> PreTrainedTokenizerBase:
    if context.tokenizer is None or context.tokenizer.eos_token_id is None:
        raise DataError("the tokenizer has no end-of-text token", "documents could not be told apart; choose another")
    return context.tokenizer
