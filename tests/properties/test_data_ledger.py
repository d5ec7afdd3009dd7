"""Where every token went, for any documents and any data section: the account adds up, and the rows hold it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from ctxkit.errors import DataError
from ctxkit.recipe import DataSection, EvalSplit, LengthBand, Packing
from ctxkit.spec import Context, EncodedDocument, FilterOptions, TokenFilter, TokenFilterOptions
from ctxkit.train.rows import MASKED, Prepared
from ctxkit_chunkers.options import OverlapOptions, ParagraphOptions
from tests.unit.train.builders import Texts, byte_tokenizer, prepare

pytestmark = pytest.mark.torch


class OddTokens(TokenFilterOptions):
    """Drops documents by their length."""

    kind: Literal["odd"] = "odd"
    rest: int

    def build(self, context: Context) -> TokenFilter:
        """Return the judge."""

        def judge(document: EncodedDocument) -> str | None:
            return "of that rest" if len(document.input_ids) % 3 == self.rest else None

        return judge


class Marked(FilterOptions):
    """Drops texts that begin with a letter."""

    kind: Literal["marked"] = "marked"

    def build(self, context: Context) -> Any:
        """Return the judge."""
        return lambda document: "begins with b" if document.text.startswith("b") else None


TEXTS = st.lists(
    st.text(alphabet="ab \n.é", max_size=12) | st.integers(0, 90).map(lambda length: "word. " * (length // 6)),
    min_size=2,
    max_size=12,
)


@st.composite
def chunkers(draw: st.DrawFn) -> OverlapOptions | ParagraphOptions:
    """Draw a chunker."""
    length = draw(st.integers(4, 24))
    if draw(st.booleans()):
        return ParagraphOptions(kind="paragraph", length=length)
    overlap = draw(st.integers(0, length - 1))
    return OverlapOptions(kind="overlap", length=length, overlap=overlap, train_on_overlap=draw(st.booleans()))


@st.composite
def sections(draw: st.DrawFn) -> DataSection:
    """Draw a data section."""
    count = draw(st.integers(1, 3))
    weighted = draw(st.booleans())
    sources = []
    for _ in range(count):
        texts = draw(TEXTS)
        sources.append(
            Texts(
                texts=tuple(texts),
                weight=draw(st.sampled_from([0.5, 1, 3])) if weighted else None,
                max_tokens=draw(st.none() | st.integers(1, 200)),
                chunker=draw(st.none() | chunkers()),
                bad=tuple(draw(st.lists(st.integers(0, len(texts)), max_size=2))),
            )
        )
    chunker = draw(chunkers())
    longest = max((source.chunker or chunker).length for source in sources)
    row = draw(st.none() | st.integers(longest, 2 * longest))
    bands = draw(st.sampled_from([(), (LengthBand(least=0, share=2), LengthBand(least=12, share=1))]))
    return DataSection(
        sources=tuple(sources),
        chunker=chunker,
        filters=tuple(draw(st.lists(st.sampled_from([OddTokens(rest=1), Marked()]), max_size=2, unique_by=id))),
        packing=draw(st.none() | st.builds(Packing, document_mask=st.booleans(), length=st.just(row))),
        length_bands=bands,
        max_tokens=draw(st.none() | st.integers(1, 300)),
        eval=draw(st.none() | st.builds(EvalSplit, share=st.sampled_from([0.1, 0.5]))),
    )


def check_source(ledger: dict[str, Any], options: Texts) -> None:
    """Hold an account against the identities of its docstring."""
    lost = sum(ledger["dropped"].values())
    read = ledger["tokens_kept"] + lost + ledger["tokens_unused"] + ledger["tokens_eval"]
    assert ledger["tokens_read"] == read
    made = ledger["tokens_kept"] + ledger["tokens_repeated"] + ledger["tokens_inserted"]
    assert made == ledger["tokens_trained"] + ledger["tokens_masked"]
    assert min(value for name, value in ledger.items() if name.startswith("tokens")) >= 0
    assert ledger["documents_read"] == ledger["documents"] + sum(
        sum(ledger[name].values()) for name in ("skipped", "filtered_documents")
    )
    assert ledger["documents_read"] <= len(options.texts) + len(options.bad)
    bins = ledger["document_lengths"]
    assert sum(part["count"] for part in bins) == ledger["documents"]
    assert sum(part["tokens"] for part in bins) == ledger["tokens_read"]


def check_read_whole(ledger: dict[str, Any], options: Texts, filters: tuple[object, ...]) -> None:
    """Hold an account of a source without any limit against the texts themselves."""
    kept = [text for text in options.texts if not (Marked() in filters and text.startswith("b"))]
    assert ledger["documents"] == len(kept)
    assert ledger["filtered_documents"].get("begins with b", 0) == len(options.texts) - len(kept)
    assert ledger["tokens_read"] == sum(len(text.encode()) + 1 for text in kept)
    assert sum(ledger["skipped"].values()) == len(options.bad)


def check_rows(prepared: Prepared, data: DataSection) -> None:
    """Hold what the manifest says of each split against the labels and ids of its rows."""
    for name, dataset in (("train", prepared.train), ("eval", prepared.eval)):
        if dataset is None:
            assert prepared.manifest[name] is None
            continue
        said = prepared.manifest[name]
        rows = list(dataset)
        assert said["rows"] == len(rows)
        assert said["tokens"] == sum(len(row["input_ids"]) for row in rows)
        assert said["tokens_masked"] == sum(int((row["labels"] == MASKED).sum()) for row in rows)
        assert said["tokens_trained"] == said["tokens"] - said["tokens_masked"]
        assert said["longest"] == max(len(row["input_ids"]) for row in rows) <= data.row_length
        assert said["efficiency"] == pytest.approx(said["tokens"] / (said["rows"] * data.row_length))
        assert all((row["labels"][row["labels"] != MASKED] == row["input_ids"][row["labels"] != MASKED]).all()
                   for row in rows)  # fmt: skip
        if data.packing is None:
            assert said["chunks"] == said["rows"]
        elif data.packing.document_mask:
            assert said["chunks"] == sum(len(row["seq_lengths"]) for row in rows)
            assert all(sum(row["seq_lengths"]) == len(row["input_ids"]) for row in rows)
        else:
            assert all("seq_lengths" not in row for row in rows)


@settings(max_examples=60, deadline=None)
@given(data=sections(), seed=st.integers(0, 3))
def test_every_token_is_accounted_for(data: DataSection, seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Read = kept + dropped + unused + held out; kept + repeated + inserted = trained + masked; rows agree."""
    folder: Path = tmp_path_factory.mktemp("ledger")
    try:
        prepared = prepare(data, folder, byte_tokenizer(), seed)
    except DataError as error:
        event(error.message[:32])
        if "no training example" in error.message or "sets no document aside" in error.message:
            return
        raise
    event("prepared")
    ledgers = prepared.manifest["sources"]
    limited = data.max_tokens is not None
    for ledger, options in zip(ledgers, data.sources, strict=True):
        check_source(ledger, options)
        if not limited and options.max_tokens is None:
            check_read_whole(ledger, options, data.filters)
            if not data.length_bands and options.weight is None:
                assert ledger["tokens_unused"] == 0
    assert sum(ledger["tokens_trained"] for ledger in ledgers) == prepared.manifest["train"]["tokens_trained"]
    assert sum(ledger["chunks"] for ledger in ledgers) == prepared.manifest["train"]["chunks"]
    check_rows(prepared, data)
