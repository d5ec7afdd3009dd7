"""Exact and near duplicates: against the true similarity, and against datasketch where it is installed."""

from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ctxkit.spec import Context, Document, EncodedDocument
from ctxkit_filters import ExactDuplicatesOptions, NearDuplicatesOptions
from ctxkit_filters.lsh import FIRST_CAPACITY, FOLLOWED, LshIndex, banding
from ctxkit_filters.minhash import signature, similarity

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

VOCABULARY = 32_000
SAME = "the same tokens as a document before"
NEAR = "nearly the same as a document before"


def exact(documents: Sequence[Any]) -> list[str | None]:
    """Return what a fresh filter says of documents of these ids, in order."""
    judge = ExactDuplicatesOptions(kind="exact_duplicates").build(Context())
    return [judge(EncodedDocument(Document("", "d"), np.array(ids, dtype=np.int32))) for ids in documents]


def near(documents: Sequence[Any], **options: Any) -> list[str | None]:
    """Return what a fresh filter says of documents of these ids, in order."""
    judge = NearDuplicatesOptions.model_validate({"kind": "near_duplicates", **options}).build(Context())
    return [judge(EncodedDocument(Document("", "d"), np.array(ids, dtype=np.int32))) for ids in documents]


def shingles(ids: NDArray[np.int32], ngram: int = 5) -> set[bytes]:
    """Return the n-grams as they are, without any hash."""
    return {window.tobytes() for window in np.lib.stride_tricks.sliding_window_view(ids, ngram)}


def jaccard(one: NDArray[np.int32], two: NDArray[np.int32]) -> float:
    """Return the true similarity of two documents."""
    return len(shingles(one) & shingles(two)) / len(shingles(one) | shingles(two))


def edited(ids: NDArray[np.int32], places: int, generator: np.random.Generator) -> NDArray[np.int32]:
    """Return a document with other tokens at so many places."""
    other = ids.copy()
    other[generator.choice(len(ids), places, replace=False)] = generator.integers(VOCABULARY, 2 * VOCABULARY, places)
    return other


def pairs(count: int, tokens: int, seed: int) -> list[tuple[NDArray[np.int32], NDArray[np.int32]]]:
    """Return pairs of documents from the same to nothing in common."""
    generator = np.random.default_rng(seed)
    originals = generator.integers(0, VOCABULARY, (count, tokens)).astype(np.int32)
    return [(ids, edited(ids, tokens * number // count // 4, generator)) for number, ids in enumerate(originals)]


def test_exact_duplicates() -> None:
    """The first stays; another order, another length or one other token makes another document."""
    documents = [[1, 2, 3], [1, 2], [1, 2, 3], [3, 2, 1], [1, 2, 4], [], [1, 2], [], [1, 2, 3, 0]]
    assert exact(documents) == [None, None, SAME, None, None, None, SAME, SAME, None]


def test_exact_duplicates_in_any_layout() -> None:
    """The ids may be a view with gaps, or read-only."""
    judge = ExactDuplicatesOptions(kind="exact_duplicates").build(Context())
    ids = np.arange(20, dtype=np.int32)
    ids.setflags(write=False)
    assert judge(EncodedDocument(Document("", "d"), ids[::2])) is None
    assert judge(EncodedDocument(Document("", "d"), ids[::2].copy())) == SAME


@pytest.mark.parametrize("num_perm", [64, 100, 128, 512])
def test_estimates(num_perm: int) -> None:
    """Each estimate is within four standard deviations of the truth, and their mean has no bias."""
    drawn = pairs(120, 1500, seed=num_perm)
    true = np.array([jaccard(*pair) for pair in drawn])
    estimated = np.array(
        [similarity(signature(one, num_perm), signature(two, num_perm)[None])[0] for one, two in drawn]
    )
    deviations = np.sqrt(true * (1 - true) / num_perm)
    assert true[0] == estimated[0] == 1
    assert np.all(np.abs(estimated - true) <= 4 * deviations + 1 / num_perm)
    assert abs((estimated - true).mean()) < 4 * np.sqrt((deviations**2).sum()) / len(drawn)


def test_estimates_of_short_documents() -> None:
    """Borrowed values leave the estimate without bias, however few n-grams there are."""
    drawn = pairs(600, 40, seed=1)
    true = np.array([jaccard(*pair) for pair in drawn])
    estimated = np.array([similarity(signature(one), signature(two)[None])[0] for one, two in drawn])
    errors = estimated - true
    assert 0.02 < errors.std() < 0.12
    assert abs(errors.mean()) < 4 * errors.std() / len(errors) ** 0.5


def test_signature_of_a_tiny_document() -> None:
    """Fewer tokens than an n-gram are one n-gram, of their own length; no tokens are nothing to compare."""
    tiny = [np.array(ids, dtype=np.int32) for ids in ([1], [1, 0], [1, 0, 0, 0], [1, 0, 0, 0, 0], [2**16 + 1])]
    signatures = np.array([signature(ids) for ids in tiny])
    assert [len(set(row.tolist())) for row in signatures] == [1] * 5, "every bin borrows the one n-gram"
    assert len({row.tobytes() for row in signatures}) == 5
    with pytest.raises(ValueError, match="without tokens"):
        signature(np.empty(0, dtype=np.int32))


def test_agrees_with_datasketch() -> None:
    """Two estimates of the same similarity differ by no more than their errors together."""
    datasketch = pytest.importorskip("datasketch")
    drawn = pairs(60, 1000, seed=5)
    for one, two in drawn:
        first, second = datasketch.MinHash(num_perm=128), datasketch.MinHash(num_perm=128)
        first.update_batch(shingles(one))
        second.update_batch(shingles(two))
        ours = similarity(signature(one), signature(two)[None])[0]
        true = jaccard(one, two)
        assert abs(ours - first.jaccard(second)) <= 4 * (2 * true * (1 - true) / 128) ** 0.5 + 1 / 128


def test_finds_what_datasketch_finds() -> None:
    """Planted near-duplicates that datasketch's index finds are dropped; documents half alike are not."""
    datasketch = pytest.importorskip("datasketch")
    generator = np.random.default_rng(11)
    lengths = generator.integers(60, 3000, 80)
    originals = [generator.integers(0, VOCABULARY, length).astype(np.int32) for length in lengths]
    planted = [edited(ids, max(len(ids) // 200, 1), generator) for ids in originals]
    half = [np.concatenate([ids[: len(ids) // 2], generator.integers(0, 99, len(ids))]) for ids in originals]
    index = datasketch.MinHashLSH(threshold=0.8, num_perm=128)
    found = []
    for number, (ids, other) in enumerate(zip(originals, planted, strict=True)):
        sketches = [datasketch.MinHash(num_perm=128), datasketch.MinHash(num_perm=128)]
        for sketch, document in zip(sketches, (ids, other), strict=True):
            sketch.update_batch(shingles(document))
        index.insert(str(number), sketches[0])
        found.append(str(number) in index.query(sketches[1]))
    verdicts = near([*originals, *planted, *half])
    assert sum(found) > 60
    assert verdicts[:80] == [None] * 80
    assert all(verdict == NEAR for verdict, by_datasketch in zip(verdicts[80:160], found, strict=True) if by_datasketch)
    assert verdicts[160:] == [None] * 80


@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.8, 0.95, 1.0])
def test_bands_find_the_similar(threshold: float) -> None:
    """Signatures exactly as similar as the threshold are found at least so often, and no longer bands would do."""
    generator = np.random.default_rng(2)
    bands, rows = banding(threshold, 128)
    assert bands * rows <= 128
    assert 1 - (1 - threshold ** (rows + 1)) ** (128 // (rows + 1)) < 0.95 or rows == 128
    found, trials = 0, 400
    for _ in range(trials):
        index = LshIndex(threshold, 128)
        one = generator.integers(0, 2**16, 128).astype(np.uint16)
        two = one.copy()
        two[generator.permutation(128)[: int(128 * (1 - threshold))]] += 1
        index.add_unless_similar(one)
        found += not index.add_unless_similar(two)
    assert found / trials > 0.95 - 3 * (0.95 * 0.05 / trials) ** 0.5


def test_similar_below_the_threshold() -> None:
    """What shares a band but not enough of the rest is another document; the threshold itself is similar."""
    one = np.arange(100, dtype=np.uint16)
    for same, added in ((89, True), (90, False), (91, False)):
        index = LshIndex(0.9, 100)
        two = np.where(np.arange(100) < same, one, one + 1000)
        assert index.add_unless_similar(one)
        assert index.add_unless_similar(two.astype(np.uint16)) is added


def test_index_grows() -> None:
    """Every signature is still found after the tables grew twice."""
    signatures = np.random.default_rng(0).integers(0, 2**16, (2 * FIRST_CAPACITY + 50, 32)).astype(np.uint16)
    index = LshIndex(0.8, 32)
    assert all(index.add_unless_similar(row) for row in signatures)
    assert index.count == len(signatures)
    for number, row in enumerate(signatures):
        links = index._candidates(index._buckets(row))
        assert np.count_nonzero(links == number) == index.bands
    assert not any(index.add_unless_similar(row) for row in signatures)


def test_crowded_bucket() -> None:
    """Of documents that all share a band, so many of the newest are compared."""
    signatures = np.random.default_rng(0).integers(0, 2**16, (3 * FOLLOWED, 128)).astype(np.uint16)
    index = LshIndex(0.8, 128)
    signatures[:, : index.rows] = 1
    for row in signatures:
        index.add_unless_similar(row)
    found = index._candidates(index._buckets(signatures[0]))
    newest = set(range(2 * FOLLOWED, 3 * FOLLOWED))
    assert newest <= set(found.tolist())
    assert len(found) < 2 * FOLLOWED


def test_memory_of_kept_documents() -> None:
    """A kept document takes less than 1 KB, right after the tables have grown as well."""
    count = FIRST_CAPACITY + 1
    signatures = np.random.default_rng(0).integers(0, 2**16, (count, 128)).astype(np.uint16)
    tracemalloc.start()
    try:
        index = LshIndex(0.8, 128)
        for row in signatures:
            index.add_unless_similar(row)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert index.count == count
    assert held / count < 900


def test_near_duplicates() -> None:
    """The first of two nearly equal documents stays, whatever lies between; a document without tokens stays."""
    generator = np.random.default_rng(4)
    one, two = generator.integers(0, VOCABULARY, (2, 1000))
    assert near([one, two, edited(one, 4, generator), one, [], []]) == [None, None, NEAR, NEAR, None, None]
    assert near([one, edited(one, 4, generator)], threshold=1.0) == [None, None]
    assert near([one, edited(one, 60, generator)], threshold=0.8) == [None, None]
    assert near([one, edited(one, 60, generator)], threshold=0.4) == [None, NEAR]
    assert near([one, one[::-1]]) == [None, None], "n-grams have an order"
    assert near([one, one[::-1]], ngram=1) == [None, NEAR], "single tokens have none"
