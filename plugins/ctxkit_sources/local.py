"""Local files of one loader as rows: in order, a slice of them, or shuffled."""

from __future__ import annotations

import hashlib
import itertools
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctxkit.errors import DataError
from ctxkit_sources.matching import readable, stamp
from ctxkit_sources.outcomes import NO_ROWS, Columns, Outcome
from ctxkit_sources.readers import rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ctxkit_sources.rows import Reading

_PLAIN = re.compile(r"\w+(\.\w+)*")
_NAMES = re.compile(r"(?:^|\+)\s*(\w+(?:\.\w+)*)")


@dataclass(frozen=True)
class LocalFiles:
    """The files of a dataset by split, and how their rows become documents."""

    splits: Mapping[str, Sequence[str]]
    reading: Reading
    columns: Columns

    def outcomes(self, split: str) -> Iterator[Outcome]:
        """Yield what becomes of the rows of a split in their order; the split may be a slice or a sum.

        Raises:
            DataError: there is no such split, or a file cannot be read.
        """
        if _PLAIN.fullmatch(split):
            yield from self.whole(self.files(split))
            return
        for name, start, end in self._slices(split):
            some = (outcome for outcome in self.whole(self.files(name)) if outcome.reason != NO_ROWS)
            yield from itertools.islice(some, start, end)

    def buffered(self, split: str, seed: int, buffer_size: int) -> Iterator[Outcome]:
        """Yield them in an order drawn from the seed: files shuffled, rows drawn from a buffer of that many.

        Raises:
            DataError: the split is no plain one, or as `outcomes`.
        """
        from datasets import IterableDataset

        if not _PLAIN.fullmatch(split):
            raise DataError(f"split {split} cannot be streamed in another order", "set `streaming: false`")
        arguments = {"files": self, "paths": list(self.files(split))}
        stream = IterableDataset.from_generator(_of_files, gen_kwargs=arguments)
        return (Outcome(**row) for row in stream.shuffle(seed=seed, buffer_size=buffer_size))

    def shuffled(self, split: str, seed: int) -> Iterator[Outcome]:
        """Yield them in an order drawn from the seed, evenly over all; a copy in datasets' cache serves for that.

        Raises:
            DataError: as `outcomes`.
        """
        import numpy as np

        stored = self._stored(split)
        for number in np.random.default_rng(seed).permutation(len(stored)):
            yield Outcome(**stored[int(number)])

    def files(self, split: str) -> Sequence[str]:
        """Return the files of a split.

        Raises:
            DataError: there is no such split.
        """
        if split not in self.splits:
            raise DataError(f"there is no split {split}", f"there is {', '.join(self.splits)}")
        return self.splits[split]

    def whole(self, paths: Sequence[str]) -> Iterator[Outcome]:
        """Yield what becomes of the rows of files; a file without rows is one outcome."""
        for path in paths:
            name, found = readable(path), False
            for row in rows(path, self.reading):
                found = True
                line = f" (line {row.line})" if row.line else ""
                yield self.columns.outcome(row, f"{name}#{row.number}", f"row {row.number}{line} of {name}")
            if not found:
                yield Outcome(name, reason=NO_ROWS, detail=f"{name} has no rows")

    def _stored(self, split: str) -> Any:
        from datasets import Dataset, Features, Value
        from datasets.exceptions import DatasetGenerationError

        names = Outcome.__dataclass_fields__
        try:
            return Dataset.from_generator(
                _of_split,
                features=Features({name: Value("large_string") for name in names}),
                gen_kwargs={"files": self, "split": split},
                fingerprint=self._key(split),
                writer_batch_size=BATCH,
            )
        except DatasetGenerationError as error:
            # It wraps whatever a generator raises.
            raise error.__cause__ or error from None

    def _slices(self, split: str) -> list[tuple[str, int, int]]:
        """Return the name, start and end of each part of a split such as `train[:10%]+test`."""
        from datasets import ReadInstruction

        names = dict.fromkeys(_NAMES.findall(split))
        lengths = {name: sum(outcome.reason != NO_ROWS for outcome in self.whole(self.files(name))) for name in names}
        try:
            parts = ReadInstruction.from_spec(split).to_absolute(lengths)
        except (AssertionError, ValueError) as error:
            raise DataError(
                f"split {split} cannot be read: {error}", "such as train, train[:10%], train+test"
            ) from error
        return [(part.splitname, part.from_, part.to) for part in parts]

    def _key(self, split: str) -> str:
        """Return a hash of all that the rows depend on: the files, the options, and the code that reads them."""
        code = sorted(map(str, Path(__file__).parent.glob("*.py")))
        files = [str(Path(path).absolute()) for paths in self.splits.values() for path in paths]
        said = f"{self.reading} {self.columns} {split} {stamp(files)} {stamp(code)}"
        return hashlib.sha256(said.encode()).hexdigest()[:32]


BATCH = 64
"""Rows that are held at a time while they are stored."""


def _of_split(files: LocalFiles, split: str) -> Iterator[dict[str, Any]]:
    return (asdict(outcome) for outcome in files.outcomes(split))


def _of_files(files: LocalFiles, paths: Sequence[str]) -> Iterator[dict[str, Any]]:
    return (asdict(outcome) for outcome in files.whole(paths))
