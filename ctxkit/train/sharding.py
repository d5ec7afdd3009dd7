"""Token stores made in parts, each by a process of its own, and put together to what one process would have made."""

from __future__ import annotations

import heapq
import re
import resource
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ctxkit.rundir import read_sealed
from ctxkit.train.progress import say
from ctxkit.train.tokens import TokenStore

FILES_A_PART = 5
SPARE_FILES = 512
PART = re.compile(r"\.part-([0-9]+)-of-([0-9]+)$")


@dataclass(frozen=True)
class Shard:
    """Part `index` of `count`, from 0."""

    index: int
    count: int

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def name(self, key: str) -> str:
        """Return the folder of this part of a token store."""
        return f"{key}.part-{self.index}-of-{self.count}"


def merge(folder: Path, dtype: np.dtype[Any]) -> None:
    """Put the parts of a token store together, if all are there and whole; the store is then as one process makes it.

    Documents are copied in the order of the source, so that even the bytes are the same.
    """
    found = _parts(folder)
    if read_sealed(folder / "journal.json").get("exhausted"):
        # Put together before; a kill came between that and their removal, or they are of a try with another count.
        _remove(part for parts in found.values() for part in parts)
        return
    _allow_files(max(found, default=0) * FILES_A_PART)
    whole: dict[int, int] = {}
    for count, parts in found.items():
        whole[count] = _put_together(count, parts, folder, dtype)
        if whole[count] == count:
            _remove(parts)  # and no others: they may be in the making
            return
    for count, number in whole.items():
        say(f"{number} of {count} parts of {folder.name} are ready; reading without them")


def _remove(parts: Iterable[Path]) -> None:
    for part in parts:
        shutil.rmtree(part)


def _put_together(count: int, parts: list[Path], folder: Path, dtype: np.dtype[Any]) -> int:
    """Put `count` parts together if all are whole; return how many are."""
    # Looked at before it is opened: another process may still be writing it.
    ready = [part for part in parts if read_sealed(part / "journal.json").get("exhausted")]
    if len(ready) < count:
        return len(ready)
    stores = [TokenStore(part, dtype) for part in ready]
    whole = sum(store.exhausted for store in stores)
    if whole == count:
        _copy(stores, folder, dtype)
    for store in stores:
        store.close()
    return whole


def _parts(folder: Path) -> dict[int, list[Path]]:
    """Return the folders of parts in order, by how many parts there should be."""
    found: dict[int, list[tuple[int, Path]]] = {}
    for path in folder.parent.glob(f"{folder.name}.part-*"):
        if match := PART.search(path.name):
            found.setdefault(int(match[2]), []).append((int(match[1]), path))
    return {count: [path for _, path in sorted(parts)] for count, parts in sorted(found.items())}


def _numbered(store: TokenStore, part: int) -> Iterator[tuple[int, int, int]]:
    """Yield position in the source, part, and number in the part of each document."""
    return ((store.position_of(number), part, number) for number in range(len(store)))


def _allow_files(count: int) -> None:
    """Let this process open so many files at once, as far as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + SPARE_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _copy(stores: list[TokenStore], folder: Path, dtype: np.dtype[Any]) -> None:
    temporary = folder.with_name(f"{folder.name}.tmp-merged")
    shutil.rmtree(temporary, ignore_errors=True)
    merged = TokenStore(temporary, dtype)
    for item in heapq.merge(*(store.left_out_lines() for store in stores), key=lambda pair: pair[0]):
        merged.copy_left_out(item[1])
    numbered = (_numbered(store, part) for part, store in enumerate(stores))
    for position, part, number in heapq.merge(*numbered):
        merged.copy(stores[part], number, position)
    merged.position = max(store.position for store in stores)
    merged.exhausted = True
    merged.largest_id = max(store.largest_id for store in stores)
    merged.special_token_texts = sum(store.special_token_texts for store in stores)
    merged.commit()
    merged.close()
    shutil.rmtree(folder, ignore_errors=True)
    temporary.replace(folder)
