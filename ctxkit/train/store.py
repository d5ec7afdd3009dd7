"""Prepared data on disk: one Arrow file a source and a manifest written last, opened only if every byte is there."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import xxhash
from datasets import Dataset, Features, List, Value, concatenate_datasets
from datasets.arrow_writer import ArrowWriter

from ctxkit.rundir import read_json, write_json
from ctxkit.spec import Chunk, Span

FORMAT = 1
"""Raised whenever prepared data of an older version must not be read."""
FEATURES = Features({"input_ids": List(Value("int32")), "labels": List(Value("int32"))})
MASKED = -100
"""The label that no loss counts, as torch and transformers have it."""


@dataclass
class SourceLedger:
    """Where the tokens of one source went: read = trained - repeated + unused + dropped."""

    kind: str
    documents: int = 0
    chunks: int = 0
    tokens_read: int = 0
    """Tokens of all documents that passed the filters, begin and end tokens included."""
    tokens_trained: int = 0
    tokens_repeated: int = 0
    """Of those trained, the ones that another chunk trains too, as overlap does where it is not masked."""
    tokens_context: int = 0
    """Seen again to give context, and masked in the labels."""
    tokens_unused: int = 0
    """Cut off by `max_tokens` or by the mix of sources."""
    dropped: dict[str, int] = field(default_factory=dict)
    """Tokens that the chunker left out, by reason."""
    filtered_documents: dict[str, int] = field(default_factory=dict)
    """Documents that a filter left out before they were tokenised, by reason."""


@dataclass(frozen=True)
class Manifest:
    """What prepared data holds."""

    tokens: int
    """Tokens trained in one epoch."""
    chunks: int
    longest: int
    """Tokens in the longest chunk."""
    sources: tuple[SourceLedger, ...]


class SourceWriter:
    """Write the chunks of one source into an Arrow file, remembering how many tokens each trains."""

    def __init__(self, path: Path) -> None:
        """Open a new file."""
        self._writer = ArrowWriter(features=FEATURES, path=str(path))
        self.trained: list[int] = []
        self.first: list[int] = []
        """Of those trained, the tokens of documents that no chunk before has trained."""
        self.context: list[int] = []
        self._covered: dict[str, int] = {}
        self.lengths: list[int] = []

    def write(self, chunk: Chunk) -> None:
        """Append one chunk, its context masked in the labels."""
        labels = chunk.input_ids.copy()
        labels[: chunk.context_length] = MASKED
        self._writer.write({"input_ids": chunk.input_ids, "labels": labels})
        self.lengths.append(len(chunk.input_ids))
        self.context.append(chunk.context_length)
        self.trained.append(len(chunk.input_ids) - chunk.context_length)
        self.first.append(sum(self._first(span) for span in chunk.spans))

    def _first(self, span: Span) -> int:
        covered = self._covered.get(span.document_id, 0)
        self._covered[span.document_id] = max(covered, span.end)
        return max(span.end - max(span.start, covered), 0)

    def close(self) -> None:
        """Flush; a file without chunks is still a valid one."""
        self._writer.finalize()
        self._writer.close()


def seal(temporary: Path, folder: Path, manifest: Manifest, rows: list[int]) -> None:
    """Write the manifest and move a finished folder to its place; `rows` are the chunks used of each source."""
    files = {path.name: _digest(path) for path in sorted(temporary.glob("*.arrow"))}
    described = asdict(manifest)
    write_json(temporary / "manifest.json", {"format": FORMAT, "rows": rows, "files": files, **described})
    shutil.rmtree(folder, ignore_errors=True)
    temporary.replace(folder)


def open_dataset(folder: Path) -> Dataset | None:
    """Return the dataset in a folder, or None if it is not there, was cut or altered, or has another format."""
    manifest = read_json(folder / "manifest.json")
    if manifest.get("format") != FORMAT:
        return None
    for name, digest in manifest["files"].items():
        if not (folder / name).is_file() or _digest(folder / name) != digest:
            return None
    parts = [
        Dataset.from_file(str(folder / name)).select(range(count))
        for name, count in zip(manifest["files"], manifest["rows"], strict=True)
        if count
    ]
    return concatenate_datasets(parts)


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of prepared data as plain values."""
    return read_json(folder / "manifest.json")


def _digest(path: Path) -> str:
    """Return size and hash of a file; xxh3 reads about as fast as memory."""
    digest = xxhash.xxh3_128()
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return f"{path.stat().st_size}:{digest.hexdigest()}"
