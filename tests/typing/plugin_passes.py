"""A small plugin that must pass `mypy --strict`: the contract is enough to write one with types."""

from collections.abc import Iterable, Iterator
from typing import Literal

from ctxkit.errors import Fault
from ctxkit.spec import (
    Chunk,
    Chunker,
    ChunkerOptions,
    Component,
    Context,
    Document,
    EncodedDocument,
    Filter,
    FilterOptions,
    SourceOptions,
    SourceSlot,
    Span,
    StageFinished,
    hookimpl,
)


class HalvesOptions(ChunkerOptions):
    """Cut every document in two."""

    kind: Literal["halves"]

    def build(self, context: Context) -> Chunker:
        """Return the chunker."""

        def halves(documents: Iterable[EncodedDocument]) -> Iterator[Chunk]:
            for document in documents:
                ids, name = document.input_ids, document.document.id
                middle = len(ids) // 2
                yield Chunk(ids[:middle], (Span(name, 0, middle),))
                yield Chunk(ids[middle:], (Span(name, middle, len(ids)),))

        return halves


class LoudOptions(FilterOptions):
    """Keep what is loud."""

    kind: Literal["loud"]

    def build(self, context: Context) -> Filter:
        """Return the judge."""
        return lambda document: None if document.text.isupper() else "quiet"


class FirstOptions(SourceOptions):
    """Take the first documents of another source."""

    kind: Literal["first"]
    source: SourceSlot
    """The other source."""
    count: int = 1
    """How many."""

    def build(self, context: Context) -> Iterable[Document]:
        """Return the documents."""
        return [document for document, _ in zip(self.source.build(context), range(self.count), strict=False)]


@hookimpl
def ctxkit_components() -> list[type[Component]]:
    """Return what this plugin brings."""
    return [HalvesOptions, LoudOptions, FirstOptions]


@hookimpl
def ctxkit_check(recipe: dict[str, object]) -> list[Fault]:
    """Refuse a recipe of a certain name."""
    return [Fault(("name",), "another name, please")] if recipe["name"] == "x" else []


@hookimpl
def ctxkit_stage_finished(event: StageFinished) -> None:
    """Say which stage is finished."""
    print(event.stage, event.model_dir.name, [report.task for report in event.evals])  # noqa: T201
