"""What holds for every filter of tokens and every document."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxkit.spec import Document, EncodedDocument, TokenFilter
from ctxkit_filters.exact_duplicates import ExactDuplicateFilter
from ctxkit_filters.leakage import HeldOut, LeakageFilter
from ctxkit_filters.length import TokensFilter
from ctxkit_filters.near_duplicates import NearDuplicateFilter
from ctxkit_filters.ngrams import ngram_hashes
from ctxkit_filters.repetition import (
    RepetitionFilter,
    WindowFilter,
    repeated_share,
    repeated_share_bound,
    repeats_window,
)

NGRAM = 5
HELD_OUT = HeldOut.of(np.unique(ngram_hashes(np.zeros(9, dtype=np.int32), NGRAM)), NGRAM)
ALONE = {
    "tokens": lambda: TokensFilter(2, 20),
    "repetition": lambda: RepetitionFilter(NGRAM, 0.2),
    "window": lambda: WindowFilter(NGRAM, 0.5),
    "leakage": lambda: LeakageFilter(HELD_OUT, 1, 0.0),
}
COMPARING = {
    "exact_duplicates": ExactDuplicateFilter,
    "near_duplicates": lambda: NearDuplicateFilter.of(threshold=0.5, num_perm=16, ngram=NGRAM),
}


@st.composite
def tokens(draw: st.DrawFn) -> list[int]:
    """Draw the ids of a document, few or any, often of a length at which n-grams begin."""
    lengths = st.sampled_from([0, 1, NGRAM - 1, NGRAM, NGRAM + 1, 2 * NGRAM]) | st.integers(0, 60)
    count = draw(lengths)
    ids = draw(st.sampled_from([st.just(0), st.integers(0, 1), st.integers(0, 9), st.integers(0, 2**31 - 1)]))
    return draw(st.lists(ids, min_size=count, max_size=count))


def document(ids: list[int]) -> EncodedDocument:
    """Return a document whose ids cannot be changed."""
    array = np.array(ids, dtype=np.int32)
    array.setflags(write=False)
    return EncodedDocument(Document("", "d"), array)


def verdicts(judge: TokenFilter, documents: list[list[int]]) -> list[str | None]:
    """Return the answers in order."""
    return [judge(document(ids)) for ids in documents]


@pytest.mark.parametrize("kind", [*ALONE, *COMPARING])
@given(documents=st.lists(tokens(), max_size=12))
def test_answers(kind: str, documents: list[list[int]]) -> None:
    """A filter answers None or one reason for one cause, and the same for the same documents."""
    make: Any = {**ALONE, **COMPARING}[kind]
    answers = verdicts(make(), documents)
    assert len({answer for answer in answers if answer is not None}) <= (2 if kind == "tokens" else 1)
    assert all(answer is None or (isinstance(answer, str) and answer) for answer in answers)
    assert verdicts(make(), documents) == answers


@pytest.mark.parametrize("kind", ALONE)
@given(documents=st.lists(tokens(), max_size=6))
def test_order_does_not_matter(kind: str, documents: list[list[int]]) -> None:
    """A filter that compares with nothing before judges each document as if it were alone."""
    make: Any = ALONE[kind]
    assert verdicts(make(), documents) == [make()(document(ids)) for ids in documents]


@given(documents=st.lists(tokens(), max_size=12), data=st.data())
def test_exact_duplicates(documents: list[list[int]], data: st.DataObject) -> None:
    """In any order, one of each stays."""
    shuffled = data.draw(st.permutations(documents))
    answers = verdicts(ExactDuplicateFilter(), shuffled)
    kept = [tuple(ids) for ids, answer in zip(shuffled, answers, strict=True) if answer is None]
    assert len(kept) == len(set(kept))
    assert set(kept) == {tuple(ids) for ids in documents}


@given(documents=st.lists(tokens(), max_size=12))
def test_near_duplicates(documents: list[list[int]]) -> None:
    """A copy always goes, and what was kept is kept again."""
    make: Any = COMPARING["near_duplicates"]
    answers = verdicts(make(), documents)
    kept = [ids for ids, answer in zip(documents, answers, strict=True) if answer is None]
    with_tokens = [tuple(ids) for ids in kept if ids]
    assert len(with_tokens) == len(set(with_tokens))
    assert verdicts(make(), kept) == [None] * len(kept)
    judge = make()
    verdicts(judge, documents)
    assert all(verdicts(judge, [ids]) != [None] for ids in documents if ids)


@given(ids=tokens(), ngram=st.integers(1, 12))
def test_repeated_share(ids: list[int], ngram: int) -> None:
    """The share is that of plain sets, and the bound is never below it."""
    windows = [tuple(ids[start : start + ngram]) for start in range(len(ids) - ngram + 1)]
    array = np.array(ids, dtype=np.int32)
    share = 1 - len(set(windows)) / len(windows) if windows else 0
    assert repeated_share(array, ngram) == pytest.approx(share)
    assert repeated_share_bound(array, ngram) >= repeated_share(array, ngram)


@given(ids=tokens(), ngram=st.integers(1, 12))
def test_hash_of_an_ngram_has_no_place(ids: list[int], ngram: int) -> None:
    """An n-gram has the same hash alone and within a document, and others have others."""
    array = np.array(ids, dtype=np.int32)
    windows = [array[start : start + ngram] for start in range(len(ids) - ngram + 1)]
    alone = [int(ngram_hashes(window, ngram)[0]) for window in windows]
    assert ngram_hashes(array, ngram).tolist() == alone
    assert len(set(alone)) == len({window.tobytes() for window in windows})


@given(
    ids=tokens(),
    window=st.integers(1, 12),
    threshold=st.sampled_from([0.0, 0.2, 0.5, 0.8, 1.0]),
    turn=st.integers(1, 9),
)
def test_window(ids: list[int], window: int, threshold: float, turn: int) -> None:
    """The test of windows is its definition, also of documents made to repeat."""
    repeating = ids[:turn] * 4 + ids
    pairs = [
        (repeating[start : start + window], repeating[start + window : start + 2 * window])
        for start in range(len(repeating) - 2 * window + 1)
    ]
    defined = any(sum(a == b for a, b in zip(*pair, strict=True)) / window > threshold for pair in pairs)
    assert repeats_window(np.array(repeating, dtype=np.int32), window, threshold) == defined
