"""Which rows an optimizer step had, and which documents they were cut from; asked for when something went wrong."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
from accelerate.data_loader import DataLoaderShard, SeedableRandomSampler
from datasets import Dataset
from torch.utils.data import SequentialSampler

from ctxkit.train.chunks import PLACE_BITS
from ctxkit.train.rows import Prepared

SHOWN = 8
"""Rows, and documents, that a message names."""


def step_rows(loader: Any, step: int, accumulation: int) -> list[int]:
    """Return the places in the data set of the rows that this process had in an optimizer step, counted from 0.

    The order is that of the sampler, drawn once more; empty for a sampler whose order cannot be drawn again.
    """
    if not isinstance(loader, DataLoaderShard) or loader.batch_sampler is None:
        return []
    steps = -(-len(loader) // accumulation)
    batches = _again(loader.batch_sampler, epoch=step // steps)
    first = step % steps * accumulation
    return list(chain.from_iterable(islice(batches, first, first + accumulation))) if batches is not None else []


def _again(sampler: Any, epoch: int) -> Any:
    """Return a sampler of batches that begins an epoch anew, leaving the one that is in use as it is."""
    made = copy.copy(sampler)
    if hasattr(made, "batch_sampler"):  # a part of the batches for each process
        made.batch_sampler = _again(made.batch_sampler, epoch)
        return made if made.batch_sampler is not None else None
    if isinstance(made.sampler, SeedableRandomSampler):
        made.sampler = copy.copy(made.sampler)
        made.sampler.generator = None
        made.sampler.set_epoch(epoch)
        return made
    return made if isinstance(made.sampler, SequentialSampler) else None


def named(prepared: Prepared, dataset: Dataset, places: Sequence[int]) -> str:
    """Return rows of a data set in words: their numbers in the prepared data, sources and documents."""
    rows = [_row(dataset, place) for place in places[:SHOWN]]
    found: dict[str, None] = {}
    for row in rows:
        found.update(dict.fromkeys(_documents(prepared, row)))
    numbers = ", ".join(map(str, rows)) + (f" and {len(places) - SHOWN} more" if len(places) > SHOWN else "")
    documents = ", ".join(list(found)[:SHOWN]) + (f" and {len(found) - SHOWN} more" if len(found) > SHOWN else "")
    return f"rows {numbers} ({documents})"


def _row(dataset: Dataset, place: int) -> int:
    """Return the number of a row in the prepared data, where a curriculum serves it at a place of its own."""
    return int(dataset.data.column("row")[place].as_py()) if "row" in dataset.column_names else place


def _documents(prepared: Prepared, row: int) -> list[str]:
    folder = Path(prepared.train.cache_files[0]["filename"]).parent
    stores, sources = prepared.manifest["stores"], prepared.manifest["mix"]["sources"]
    found = []
    for start in prepared.train.data.column("starts")[row].as_py():
        store, place = start >> PLACE_BITS, start & ((1 << PLACE_BITS) - 1)
        if store < len(stores):  # the ids beyond them are what chunkers inserted
            found.append(f"{sources[store]['name']}: {_document(folder / stores[store]['path'], place)!r}")
    return found


def _document(store: Path, place: int) -> str:
    """Return the id of the document of a token store that a token belongs to."""
    ends, _, lines = np.fromfile(store / "index.bin", dtype="<i8").reshape(-1, 3).T
    index = int(np.searchsorted(ends, place, side="right"))
    with (store / "documents.jsonl").open("rb") as file:
        file.seek(lines[index - 1] if index else 0)
        return str(json.loads(file.readline())["id"])
