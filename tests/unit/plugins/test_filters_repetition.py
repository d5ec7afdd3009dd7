"""Repetition: planted cases, cases counted by hand, and the scan that the window method replaces."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ctxkit.spec import Context, Document, EncodedDocument
from ctxkit_filters import RepetitionOptions, repetition
from ctxkit_filters.ngrams import BASE, BLOCK, mixed, ngram_hashes, sampled_hashes
from ctxkit_filters.repetition import deviation, repeated_share, repeated_share_bound, repeats_window

RANDOM = np.random.default_rng(7).integers(0, 32_000, 400_000).astype(np.int32)
FRESH, BLOCK_3000 = RANDOM[:5000], RANDOM[-3000:]
PLANTED = {
    "period 7": np.tile(RANDOM[:7], 1000),
    "period 50": np.tile(RANDOM[:50], 100),
    "block of 3,000 copied": np.concatenate([BLOCK_3000, FRESH[:2000], BLOCK_3000]),
    "random": FRESH,
}


def said(ids: Any, **options: Any) -> str | None:
    """Return what the filter says of a document of these ids."""
    judge = RepetitionOptions.model_validate({"kind": "repetition", **options}).build(Context())
    return judge(EncodedDocument(Document("", "d"), np.asarray(ids, dtype=np.int32)))


@pytest.mark.parametrize(
    ("case", "by_ngrams", "by_window"),
    [
        ("period 7", True, False),
        ("period 50", True, True),
        ("block of 3,000 copied", True, False),
        ("random", False, False),
    ],
)
def test_planted(case: str, by_ngrams: bool, by_window: bool) -> None:
    """N-grams find a repetition at any distance; windows only at a distance of their own length."""
    ngrams, window = said(PLANTED[case]), said(PLANTED[case], method="window")
    assert ngrams == ("more than 0.2 of its 50-grams are repeated" if by_ngrams else None)
    assert window == ("a window of 50 tokens is repeated at once" if by_window else None)


def test_counted_by_hand() -> None:
    """Of 123 231 312 123 231 two stood there before; the limit itself is kept."""
    ids = np.array([1, 2, 3, 1, 2, 3, 1], dtype=np.int32)
    assert repeated_share(ids, 3) == pytest.approx(2 / 5)
    assert said(ids, ngram=3, max_ratio=0.4) is None
    assert said(ids, ngram=3, max_ratio=0.39) == "more than 0.39 of its 3-grams are repeated"


def test_limit_is_kept() -> None:
    """A share of just the limit stays, where only the exact count can tell; the next smaller limit drops it."""
    ids = np.tile(RANDOM[:2000], 2)
    share = repeated_share(ids)
    assert share == pytest.approx(1951 / 3951)
    assert repeated_share_bound(ids) > share
    assert said(ids, max_ratio=share) is None
    assert said(ids, max_ratio=np.nextafter(share, 0)) is not None


@pytest.mark.parametrize("tokens", [0, 1, 49, 50, 51])
def test_short(tokens: int) -> None:
    """A document needs two n-grams to repeat one."""
    ids = np.zeros(tokens, dtype=np.int32)
    assert repeated_share(ids) == repeated_share_bound(ids) == (0.5 if tokens == 51 else 0)
    assert (said(ids) is None) == (tokens < 51)


def test_hash_by_the_formula() -> None:
    """The hash is the polynomial of the tokens, computed here in whole numbers, also across blocks."""
    ids, ngram = RANDOM[: 2 * BLOCK + 100], 13
    hashes = ngram_hashes(ids, ngram)
    assert len(hashes) == len(ids) - ngram + 1
    for start in (0, 1, 5000, BLOCK - 1, BLOCK, 2 * BLOCK - 1, 2 * BLOCK, len(hashes) - 1):
        window = ids[start : start + ngram].tolist()
        assert int(hashes[start]) == sum(token * BASE ** (j + 1) for j, token in enumerate(window)) % 2**64


def test_mixed() -> None:
    """The finaliser gives the published values, and leaves what it was given."""
    given = np.array([0, 1, 2**64 - 1], dtype=np.uint64)
    assert mixed(given).tolist() == [0, 0xB456BCFC34C2CB2C, 0x64B5720B4B825F21]
    assert given.tolist() == [0, 1, 2**64 - 1]


def test_sample_is_by_content() -> None:
    """The sample holds an eighth of the n-grams, and each of those at every place."""
    ids = np.tile(RANDOM[:40_000], 2)
    every, sample = ngram_hashes(ids, 50), sampled_hashes(ids, 50, 8)
    assert np.array_equal(sample, every[np.isin(every, sample)])
    assert len(np.unique(sample)) == pytest.approx(len(np.unique(every)) / 8, rel=0.05)


@pytest.mark.parametrize("copied", [0, 20_000, 60_000, 149_000])
def test_sampled_share(copied: int) -> None:
    """An estimate is within five of its standard deviations."""
    ids = np.concatenate([RANDOM[: 300_000 - copied], RANDOM[:copied]])
    total = len(ids) - 49
    distinct = len({window.tobytes() for window in np.lib.stride_tricks.sliding_window_view(ids, 50)})
    assert repeated_share(ids) == pytest.approx(1 - distinct / total)
    assert abs(repeated_share(ids, 50, 8) - (1 - distinct / total)) < 5 * deviation(total, 8) < 0.03


def test_deviation_is_that_of_the_sample() -> None:
    """Over many documents the estimates spread as far as stated, and around the true share."""
    parts = np.random.default_rng(4).permutation(RANDOM).reshape(200, 2000)
    estimates = [1 - 8 * len(np.unique(sampled_hashes(part, 50, 8))) / 1951 for part in parts]
    assert np.mean(estimates) == pytest.approx(0, abs=5 * deviation(1951, 8) / len(parts) ** 0.5)
    # Where all n-grams differ, as here, the greatest deviation is reached.
    assert np.std(estimates) == pytest.approx(deviation(1951, 8), rel=0.12)


@pytest.mark.parametrize("sampled", [True, False])
def test_long_documents_are_sampled(monkeypatch: pytest.MonkeyPatch, sampled: bool) -> None:
    """From a number of n-grams on only a sample is counted, and no table made; the verdict is the same."""
    ids, asked = PLANTED["block of 3,000 copied"], []

    def share(ids: Any, ngram: int, sample: int) -> float:
        asked.append(sample)
        return repeated_share(ids, ngram, sample)

    monkeypatch.setattr(repetition, "repeated_share", share)
    monkeypatch.setattr(repetition, "LONG", len(ids) - 49 + (not sampled))
    if sampled:
        monkeypatch.delattr(repetition, "repeated_share_bound")
    assert said(ids) is not None
    assert asked == [8 if sampled else 1]


def test_bound_spares_the_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound is close enough that text without repetition is never sorted."""
    monkeypatch.delattr(repetition, "repeated_share")
    for tokens in (60, 100, 1000, 5000, 100_000):
        assert said(RANDOM[:tokens]) is None
        assert 0 <= repeated_share_bound(RANDOM[:tokens]) < 0.1


def scan(tokens: list[int], window: int = 50, threshold: float = 0.8) -> bool:
    """Look for a repeated window as a widespread snippet does, one comparison at a time."""
    for i in range(len(tokens) - window * 2):
        chunk1 = tokens[i : i + window]
        chunk2 = tokens[i + window : i + window * 2]
        if sum(a == b for a, b in zip(chunk1, chunk2, strict=True)) / window > threshold:
            return True
    return False


@pytest.mark.parametrize("seed", range(40))
def test_window_equals_the_scan(seed: int) -> None:
    """The answer is that of the scan, which never looks at the last place: here it is given one token more."""
    generator = np.random.default_rng(seed)
    window = int(generator.integers(1, 60))
    ids = np.resize(generator.integers(0, 9, window), generator.integers(0, 5 * window)).astype(np.int32)
    noise = generator.random(len(ids)) < generator.uniform(0, 0.5)
    ids[noise] = generator.integers(0, 9, noise.sum())
    for threshold in (0.0, 0.5, 0.8, 1.0):
        assert repeats_window(ids, window, threshold) == scan([*ids.tolist(), -1], window, threshold)


def test_window_of_another_length() -> None:
    """A period is found by the window of its length."""
    ids = np.tile(RANDOM[:30], 10)
    assert said(ids, method="window") is None
    assert said(ids, method="window", window=30) == "a window of 30 tokens is repeated at once"


@pytest.mark.parametrize("start", [0, BLOCK - 120, BLOCK - 99, BLOCK - 50, BLOCK - 1, BLOCK, 2 * BLOCK, 70_000 - 100])
def test_window_across_blocks(start: int) -> None:
    """A repetition is found wherever it begins in a long document, and none where there is none."""
    ids = RANDOM[:70_000].copy()
    assert not repeats_window(ids, threshold=0.98)
    ids[start + 50 : start + 100] = ids[start : start + 50]
    assert repeats_window(ids, threshold=0.98)


def test_window_sees_the_last_place() -> None:
    """The scan misses a document that is one window twice; the limit itself is kept."""
    ids = np.tile(RANDOM[:50], 2)
    assert not scan(ids.tolist())
    assert repeats_window(ids)
    ids[:10] = -1
    assert not repeats_window(ids, threshold=0.8)
    assert repeats_window(ids, threshold=0.79)
