"""In which order the files of a repository stand in an example; each is the same however the files arrive."""

from __future__ import annotations

import heapq
import re
from collections import Counter, defaultdict
from itertools import combinations
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

TEST = re.compile(
    r"(^|/)(tests?|testing|__tests__)/"  # a folder of tests
    r"|(^|/)(test_[^/]*|conftest)\.py$"
    r"|[_.](test|spec)\.\w+$"  # x_test.go, x.spec.ts
    r"|(^|/)[^/]*Tests?\.(java|kt)$"
)
"""What the path of a test looks like."""
COMMON = 16
"""A word in more files than this says nothing about which belong together; it also bounds the pairs to count."""
WORD = re.compile(r"[A-Za-z_]\w{3,40}")


def by_dependency(paths: Sequence[str], imports: Sequence[set[int]]) -> list[int]:
    """Return the files with imports first, dependants after, tests last.

    Files that are linked by imports, directly or not, stand together. Among them the one with the fewest imports that
    have not been placed is taken again and again, which survives cycles (DeepSeek-Coder, Guo et al. 2024, algorithm 1);
    of several the first by path.
    """

    def place(island: list[int]) -> tuple[bool, str]:
        names = [paths[file] for file in island]
        return all(TEST.search(name) for name in names), min(names)

    islands = sorted(_islands(imports), key=place)  # one of nothing but tests comes after the others
    return [file for island in islands for file in _fewest_first(island, paths, imports)]


def by_directory(paths: Sequence[str]) -> list[int]:
    """Return the files of each folder by name, then its folders, depth first."""

    def place(file: int) -> tuple[tuple[int, str], ...]:
        *folders, name = paths[file].split("/")
        return (*((1, folder) for folder in folders), (0, name))

    return sorted(range(len(paths)), key=place)


def by_relatedness(paths: Sequence[str], texts: Iterable[str]) -> list[int]:
    """Return the files so that each is followed by the one most like it among those left, by Jaccard's index.

    Files are compared by the words that at most `COMMON` of them hold. The first by path begins, and goes on where
    nothing left is like the last. Time grows with the words, not with the pairs of files.
    """
    words = [set(WORD.findall(text)) for text in texts]
    likeness = _likeness(words)
    waiting = sorted(range(len(paths)), key=paths.__getitem__)[::-1]
    placed: dict[int, None] = {}
    while waiting:
        file: int | None = waiting.pop()
        while file is not None and file not in placed:
            placed[file] = None
            left = [(-score, paths[other], other) for other, score in likeness[file].items() if other not in placed]
            file = min(left)[2] if left else None
    return list(placed)


def _islands(imports: Sequence[set[int]]) -> list[list[int]]:
    """Return the files in sets that no import links."""
    linked: list[set[int]] = [set(files) for files in imports]
    for file, imported in enumerate(imports):
        for other in imported:
            linked[other].add(file)
    seen: set[int] = set()
    islands = []
    for first in range(len(imports)):
        island, frontier = [], [first]
        while frontier:
            file = frontier.pop()
            if file not in seen:
                seen.add(file)
                island.append(file)
                frontier += linked[file]
        if island:
            islands.append(island)
    return islands


def _fewest_first(island: Sequence[int], paths: Sequence[str], imports: Sequence[set[int]]) -> list[int]:
    waiting = {file: len(imports[file]) for file in island}
    importers: dict[int, list[int]] = defaultdict(list)
    for file in island:
        for imported in imports[file]:
            importers[imported].append(file)

    def entry(file: int) -> tuple[bool, int, str, int]:
        return TEST.search(paths[file]) is not None, waiting[file], paths[file], file

    heap = [entry(file) for file in island]
    heapq.heapify(heap)
    ordered = []
    while heap:
        file = heapq.heappop(heap)[-1]
        if file not in waiting:
            continue  # placed before, by an entry with fewer imports
        ordered.append(file)
        del waiting[file]
        for importer in importers[file]:
            if importer in waiting:
                waiting[importer] -= 1
                heapq.heappush(heap, entry(importer))
    return ordered


def _likeness(words: Sequence[set[str]]) -> list[dict[int, float]]:
    """Return for each file the others that share words with it, and Jaccard's index of their uncommon words."""
    holders: dict[str, list[int]] = defaultdict(list)
    for file, held in enumerate(words):
        for word in held:
            holders[word].append(file)
    sizes, shared = Counter[int](), Counter[tuple[int, int]]()
    for files in holders.values():
        if len(files) <= COMMON:
            sizes.update(files)
            shared.update(combinations(files, 2))
    likeness: list[dict[int, float]] = [{} for _ in words]
    for (one, two), count in shared.items():
        score = count / (sizes[one] + sizes[two] - count)
        likeness[one][two] = likeness[two][one] = score
    return likeness
