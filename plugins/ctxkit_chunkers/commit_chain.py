"""The history of a file, or a run of commits, in one example, oldest first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ctxkit_chunkers.boundaries import BoundaryTable
from ctxkit_chunkers.documents import Dropped, uncounted
from ctxkit_chunkers.markup import Markup
from ctxkit_chunkers.parts import NAMES_SHARE, Part, PartWriter, in_groups, parts_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from transformers import PreTrainedTokenizerBase

    from ctxkit.spec import Chunk, EncodedDocument
    from ctxkit_chunkers.layouts import Layout


class CommitChainChunker:
    """Write the documents of each group, one a commit, into examples; no more than one of them lies in memory."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        *,
        layout: Layout,
        length: int,
        overlap: int = 0,
        max_sha: int = 12,
        dropped: Dropped = uncounted,
    ) -> None:
        """Read the vocabulary once; lengths are in tokens.

        Args:
            tokenizer: The one that encoded the documents.
            layout: How commits are written.
            length: Tokens in the longest example.
            overlap: Tokens that an example repeats of the one before it in its chain, at most; they are masked.
            max_sha: Characters of the name of a commit that are written.
            dropped: Told of the begin and end tokens of every document, and of empty ones.

        Raises:
            CtxkitError: the tokenizer lacks a special token of the layout.
        """
        markup = Markup(tokenizer, layout, length // NAMES_SHARE)
        self._edges = markup.edges
        self._write = PartWriter(markup=markup, table=BoundaryTable.of(tokenizer), length=length, overlap=overlap)
        self._max_sha = max_sha
        self._dropped = dropped

    def __call__(self, documents: Iterable[EncodedDocument]) -> Iterator[Chunk]:
        """Yield the examples of each chain; every token but begin and end tokens is trained in one of them."""
        for name, members in in_groups(documents):
            yield from self._write(name, parts_of(members, self._edges, self._titled, self._dropped), _reach)

    def _titled(self, document: EncodedDocument) -> dict[str, str]:
        said = document.document.metadata
        sha = str(said.get("commit") or document.document.id)
        # Whole versions do not say whose they are; a diff of several files has no path of its own.
        path = f" {said['path']}" if said.get("path") else ""
        return {"sha": f"{sha[: self._max_sha]}{path}", "subject": str(said.get("subject") or "")}


def _reach(parts: Sequence[Part], offsets: Sequence[int]) -> int:
    """Return how far the last commit is from the first, in tokens, for each change builds on all before it."""
    del parts
    return offsets[-1] - offsets[0]
