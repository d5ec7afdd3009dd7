"""The files of a repository in one example, ordered so that what a file needs stands before it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ctxkit_chunkers.boundaries import BoundaryTable
from ctxkit_chunkers.documents import Dropped, uncounted
from ctxkit_chunkers.imports import imported_files
from ctxkit_chunkers.languages import path_of
from ctxkit_chunkers.markup import Markup
from ctxkit_chunkers.ordering import by_dependency, by_directory, by_relatedness
from ctxkit_chunkers.parts import NAMES_SHARE, Part, PartWriter, in_groups, parts_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import Literal, TypeAlias

    from transformers import PreTrainedTokenizerBase

    from ctxkit.spec import Chunk, EncodedDocument
    from ctxkit_chunkers.layouts import Layout

    Order: TypeAlias = Literal["dependency", "directory", "related", "given"]


class MultiFileChunker:
    """Write the documents of each group into examples, one group in memory at a time."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        *,
        layout: Layout,
        length: int,
        order: Order,
        dropped: Dropped = uncounted,
    ) -> None:
        """Read the vocabulary once; `length` is in tokens.

        Args:
            tokenizer: The one that encoded the documents.
            layout: How files are written.
            length: Tokens in the longest example.
            order: Of the files of a group.
            dropped: Told of the begin and end tokens of every document, and of empty ones.

        Raises:
            CtxkitError: the tokenizer lacks a special token of the layout.
        """
        markup = Markup(tokenizer, layout, length // NAMES_SHARE)
        self._edges = markup.edges
        self._write = PartWriter(markup=markup, table=BoundaryTable.of(tokenizer), length=length)
        self._order = order
        self._dropped = dropped

    def __call__(self, documents: Iterable[EncodedDocument]) -> Iterator[Chunk]:
        """Yield the examples of each group; every token but begin and end tokens is in one of them."""
        for name, members in in_groups(documents):
            parts = list(parts_of(members, self._edges, _titled, self._dropped))
            imports = _imports(parts)
            ordered = [parts[index] for index in self._ordered(parts, imports)]
            places = {id(part.document): index for index, part in enumerate(parts)}
            yield from self._write(name, ordered, partial(_reach, imports, places))

    def _ordered(self, parts: Sequence[Part], imports: Sequence[set[int]]) -> list[int]:
        paths = [part.fields["path"] for part in parts]
        if self._order == "dependency":
            return by_dependency(paths, imports)
        if self._order == "directory":
            return by_directory(paths)
        if self._order == "related":
            return by_relatedness(paths, (part.document.document.text for part in parts))
        return list(range(len(parts)))


def _titled(document: EncodedDocument) -> dict[str, str]:
    return {"path": path_of(document.document)}


def _imports(parts: Sequence[Part]) -> list[set[int]]:
    """Return for each part those that it imports; a file alone is not read for this."""
    if len(parts) < 2:
        return [set() for _ in parts]
    texts = (part.document.document.text for part in parts)
    return imported_files([part.fields["path"] for part in parts], texts)


def _reach(
    imports: Sequence[set[int]], places: Mapping[int, int], parts: Sequence[Part], offsets: Sequence[int]
) -> int:
    """Return the farthest from the beginning of a file back to the beginning of one that it imports, in tokens."""
    begins = {places[id(part.document)]: offset for part, offset in zip(parts, offsets, strict=True)}
    distances = [
        offset - begins[imported] for file, offset in begins.items() for imported in imports[file] & begins.keys()
    ]
    return max(0, *distances, 0)
