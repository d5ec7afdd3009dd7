"""The cells of an eval on the disk: each is saved when it is finished, and the processes of a launch share them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from ctxkit import launch
from ctxkit.spec import Cells
from ctxkit.spec.cells import Work, outcome
from ctxkit.train.journal import append_line
from ctxkit.train.progress import Bar, say

POLL_SECONDS = 0.2
PATIENCE_SECONDS = 600


class ShareDone(Exception):  # noqa: N818 - no error: the first process has the rest
    """Raised in every process but the first when its share of the cells is measured."""


@dataclass(frozen=True)
class SavedCells:
    """Measures the cells of one eval on one model, but those that lie in its folder already."""

    folder: Path
    """One file of lines for each process; it goes when the report is written."""
    reported: Callable[[], bool]
    """Whether the first process has written the report, so that nothing is left to do."""
    attempt: int = 0
    """How often the eval was measured to its end before: what failed then is tried once more."""

    def __call__(self, description: str, cells: Mapping[str, Work]) -> Cells:
        """Return what came of all cells, in the first process; a shared disk is all that connects the others with it.

        Raises:
            ShareDone: in the others, when their share is measured.
        """
        self._measure(description, cells)
        if launch.rank() != 0:
            raise ShareDone
        known = self._when_known(cells)
        return Cells(
            {name: known[name]["found"] for name in cells if "found" in known[name]},
            {name: known[name]["failed"] for name in cells if "failed" in known[name]},
        )

    def _measure(self, description: str, cells: Mapping[str, Work]) -> None:
        mine = list(cells)[launch.rank() :: launch.world_size()]
        known = self._known()
        with (
            _appended(self.folder / f"{launch.rank()}.jsonl") as file,
            Bar(description, len(mine), done=sum(name in known for name in mine)) as bar,
        ):
            for name in mine:
                if name in known:
                    continue
                if self.reported():
                    return
                append_line(file, {**_line(description, name, cells[name]), "attempt": self.attempt})
                bar.advance()

    def _when_known(self, cells: Mapping[str, Work]) -> dict[str, dict[str, Any]]:
        """Wait for the cells of the other processes; the launcher ends this one should one of them fail."""
        began, said = time.monotonic(), False
        while not cells.keys() <= (known := self._known()).keys():
            time.sleep(POLL_SECONDS)
            if not said and time.monotonic() - began > PATIENCE_SECONDS:
                said = True
                say(f"waiting for other processes to measure {len(cells.keys() - known.keys())} cells")
        return known

    def _known(self) -> dict[str, dict[str, Any]]:
        """Return the line of each finished cell by its name; one that a kill cut off counts for nothing."""
        found = {}
        for path in sorted(self.folder.glob("*.jsonl")):
            for line in path.read_bytes().split(b"\n")[:-1]:
                item = json.loads(line)
                if "found" in item or item["attempt"] == self.attempt:
                    found[item["cell"]] = item
        return found


def _line(description: str, name: str, work: Work) -> dict[str, Any]:
    """Measure a cell; return what is kept of it."""
    value, why = outcome(work)
    if why is None:
        return {"cell": name, "found": value}
    say(f"{description}: cell {name} could not be measured: {why}")
    return {"cell": name, "failed": why}


@contextmanager
def _appended(path: Path) -> Iterator[IO[bytes]]:
    """Open a file of lines to go on with, without the line in the middle of which a kill came."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b", buffering=0) as file:
        file.seek(0)
        data = file.read()
        file.truncate(data.rfind(b"\n") + 1)
        yield file
