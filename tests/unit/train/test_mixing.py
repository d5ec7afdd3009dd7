"""How much of each source and of each class of length is trained."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctxkit.errors import DataError
from ctxkit.recipe import LengthBand
from ctxkit.train import documents as documents_module
from ctxkit.train.mixing import quotas
from tests.unit.train.builders import Texts, contents, ids_of, prepare, section

pytestmark = pytest.mark.torch

BANDS = (LengthBand(least=0, share=40), LengthBand(least=50, share=60))


def by_band(prepared: object) -> tuple[int, int]:
    """Return the trained tokens of rows of short and of long documents; every document is one row."""
    lengths = [len(row["input_ids"]) for row in prepared.train]
    return sum(length for length in lengths if length < 50), sum(length for length in lengths if length >= 50)


@pytest.mark.parametrize(("short", "long"), [(400, 30), (60, 300)], ids=["long is scarce", "short is scarce"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("split", [False, True], ids=["one source", "two sources"])
def test_long_and_short_are_mixed_by_tokens(short: int, long: int, weighted: bool, split: bool, tmp_path: Path) -> None:
    """60 % of the tokens from long documents, within one chunk, and all of what is scarce is used."""
    lengths = [19] * short + [99] * long
    parts = [lengths[::2], lengths[1::2]] if split else [lengths]
    sources = [Texts(lengths=tuple(part), weight=1 if weighted else None) for part in parts]
    few, many = by_band(prepare(section(*sources, length=100, length_bands=BANDS), tmp_path))
    total = min(20 * short / 0.4, 100 * long / 0.6)
    assert abs(few - 0.4 * total) <= 20 * len(parts)
    assert abs(many - 0.6 * total) <= 100 * len(parts)


def test_budget_with_bands(tmp_path: Path) -> None:
    """`max_tokens` is shared by the classes, and reading ends when each is full."""
    source = Texts(lengths=(19,) * 200 + (99, 19) * 2000)
    prepared = prepare(section(source, length=100, length_bands=BANDS, max_tokens=3000), tmp_path)
    assert by_band(prepared) == (1200, 1800)
    assert prepared.manifest["sources"][0]["documents"] < 400


def test_budget_of_a_source_holds_for_each_band(tmp_path: Path) -> None:
    """Short documents in front do not use up what the recipe wants of long ones."""
    source = Texts(lengths=(19,) * 200 + (99,) * 30, max_tokens=1000)
    assert by_band(prepare(section(source, length=100, length_bands=BANDS), tmp_path)) == (400, 600)


def test_budget_with_bands_over_sources_of_one_length_each(tmp_path: Path) -> None:
    """A first source that has short documents alone leaves room for the long ones of the second."""
    sources = [Texts(lengths=(19,) * 500), Texts(lengths=(99,) * 100)]
    prepared = prepare(section(*sources, length=100, length_bands=BANDS, max_tokens=3000), tmp_path)
    assert by_band(prepared) == (1200, 1800)


def test_band_is_that_of_the_whole_document(tmp_path: Path) -> None:
    """A long document that is cut into short chunks stays long."""
    bands = (LengthBand(least=0, share=1), LengthBand(least=50, share=1))
    prepared = prepare(section(Texts(lengths=(19,) * 10 + (99,) * 10), length=25, length_bands=bands), tmp_path)
    assert prepared.manifest["train"]["longest"] == 25
    short = sum(len(row["input_ids"]) for row in prepared.train if len(row["input_ids"]) == 20)
    assert (short, prepared.manifest["train"]["tokens"]) == (200, 400)


def test_band_without_documents_is_an_error(tmp_path: Path) -> None:
    """It says which documents are missing, rather than train on nothing."""
    with pytest.raises(DataError, match="no training example comes from documents of 50 or more tokens"):
        prepare(section(Texts(lengths=(19,) * 9), length=100, length_bands=BANDS), tmp_path)
    with pytest.raises(DataError, match="no training example comes from documents of 0 to 49 tokens"):
        prepare(section(Texts(lengths=(99,) * 9), length=100, length_bands=BANDS), tmp_path)


def test_weighted_source_without_a_chunk_is_named(tmp_path: Path) -> None:
    """A source of a mix that gives nothing to train on is an error: the mix asked for some."""
    sources = [Texts(lengths=(19,) * 9, weight=1), Texts(lengths=(0,), weight=1)]
    with pytest.raises(DataError, match=r"no training example comes from data.sources.1 \(kind texts\)"):
        prepare(section(*sources), tmp_path)


@settings(max_examples=15, deadline=None)
@given(
    weights=st.lists(st.floats(0.05, 5), min_size=1, max_size=4),
    documents=st.lists(st.lists(st.integers(5, 60), min_size=5, max_size=40), min_size=4, max_size=4),
    budget=st.none() | st.integers(200, 3000),
)
def test_weights_hold_within_one_chunk(
    weights: list[float], documents: list[list[int]], budget: int | None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Of whatever documents, each source gives its share of the scarcest, or of `max_tokens`, to less than a chunk."""
    given_lengths = documents[: len(weights)]
    sources = [Texts(lengths=tuple(part), weight=w) for part, w in zip(given_lengths, weights, strict=True)]
    prepared = prepare(section(*sources, length=25, max_tokens=budget), tmp_path_factory.mktemp("mix"))
    trained = [ledger["tokens_trained"] for ledger in prepared.manifest["sources"]]
    parts = [weight / sum(weights) for weight in weights]
    have = [sum(lengths) + len(lengths) for lengths in given_lengths]
    possible = min(tokens / part for tokens, part in zip(have, parts, strict=True))
    total = min(possible, budget or possible)
    for got, part, tokens in zip(trained, parts, have, strict=True):
        assert got == tokens or total * part - 1 <= got < total * part + 25


@given(
    total=st.integers(1, 10**7) | st.floats(1, 10**7),
    weights=st.lists(st.integers(1, 1000), min_size=1, max_size=6),
)
def test_quotas_are_whole_and_together_the_total(total: float, weights: list[int]) -> None:
    """Against exact fractions: each is its share up to less than one token, and their sum is the total."""
    parts = {number: weight / sum(weights) for number, weight in enumerate(weights)}
    made = quotas(total, parts)
    for number, weight in enumerate(weights):
        assert abs(made[number] - Fraction(total) * weight / sum(weights)) < 1 + Fraction(1, 10**5)
    assert sum(made.values()) in {int(total), int(total + 1e-5)}


def test_shares_that_binary_numbers_lack() -> None:
    """29 % of 100 tokens are 29, though 100 * 0.29 is less."""
    assert quotas(100, {"a": 0.29, "b": 0.71}) == {"a": 29, "b": 71}


def test_source_max_tokens(tmp_path: Path) -> None:
    """One source gives no more than its own limit, with or without weights, and is read no further."""
    many = Texts(lengths=(19,) * 5000, max_tokens=300)
    (tmp_path / "weighted").mkdir()
    alone, other = prepare(section(many, Texts(lengths=(19,) * 50)), tmp_path).manifest["sources"]
    assert (alone["tokens_trained"], other["tokens_trained"]) == (300, 1000)
    assert alone["documents"] == 15
    halves = [many.model_copy(update={"weight": 1.0}), Texts(lengths=(19,) * 50, weight=1)]
    ledgers = prepare(section(*halves, length=20), tmp_path / "weighted").manifest["sources"]
    assert [ledger["tokens_trained"] for ledger in ledgers] == [300, 300]


def test_overlap_counts_once(tmp_path: Path) -> None:
    """Budgets count trained tokens, so that masked overlap takes no part of them."""
    prepared = prepare(section(Texts(lengths=(9999,)), length=100, overlap=50, max_tokens=1000), tmp_path)
    assert prepared.manifest["train"]["tokens_trained"] == 1000
    assert prepared.manifest["train"]["tokens_masked"] == 18 * 50


def test_max_tokens_reads_no_more_than_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of ten thousand documents those needed are tokenised, and no more than a batch beyond."""
    monkeypatch.setattr(documents_module, "BATCH_DOCUMENTS", 10)
    monkeypatch.setattr(Texts, "given", [])
    prepared = prepare(section(Texts(lengths=(19,) * 10_000), max_tokens=1000), tmp_path)
    assert prepared.manifest["sources"][0]["documents"] == 50
    assert len(Texts.given) <= 60


def test_stage_that_needs_more_continues_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two chunk lengths and two budgets on one source: it is tokenised once, and the first rows stay valid."""
    monkeypatch.setattr(documents_module, "BATCH_DOCUMENTS", 10)
    source = Texts(lengths=(19,) * 200)
    first = prepare(section(source, length=10, max_tokens=500), tmp_path)
    rows = ids_of(first)
    (store,) = (tmp_path / "data/tokens").iterdir()
    before = contents(store)
    monkeypatch.setattr(Texts, "given", [])
    second = prepare(section(source, length=20, max_tokens=2000), tmp_path)
    assert [folder.name for folder in (tmp_path / "data/tokens").iterdir()] == [store.name]
    after = contents(store)
    assert all(after[name].startswith(before[name]) for name in ("ids.bin", "index.bin", "documents.jsonl"))
    assert [index for row in ids_of(second) for index in row][:500] == [index for row in rows for index in row][:500]
    assert ids_of(prepare(section(source, length=10, max_tokens=500), tmp_path)) == rows
    monkeypatch.setattr(Texts, "given", [])
    third = prepare(section(source, length=15, max_tokens=1000), tmp_path)
    assert third.manifest["train"]["tokens_trained"] >= 1000
    assert not Texts.given, "all of it was there"


def test_one_source_twice_in_a_section(tmp_path: Path) -> None:
    """The same source with two weights is tokenised once, and each part of the mix has what it asked for."""
    sources = [Texts(lengths=(19,) * 1000, weight=9), Texts(lengths=(19,) * 1000, weight=1)]
    prepared = prepare(section(*sources, length=20, max_tokens=10_000), tmp_path)
    assert [ledger["tokens_trained"] for ledger in prepared.manifest["sources"]] == [9000, 1000]
    assert len(list((tmp_path / "data/tokens").iterdir())) == 1
    assert len(ids_of(prepared)) == 500
