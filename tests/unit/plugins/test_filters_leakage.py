"""Leakage: which documents share n-grams with held-out ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ctxkit.errors import DataError
from ctxkit.registry import Registry
from ctxkit.spec import Context, Document, EncodedDocument, TokenFilter
from ctxkit_filters.leakage import HeldOut, LeakageFilter, held_out
from ctxkit_filters.ngrams import ngram_hashes

EVAL = [f"e{number}" for number in range(30)]
SHARED = "shares 13-grams with held-out documents"


class Words:
    """A tokenizer with an id for each word."""

    def __init__(self) -> None:
        """Know no word yet."""
        self.ids: dict[str, int] = {}

    def __call__(self, texts: list[str], **options: bool) -> dict[str, list[list[int]]]:
        """Encode a batch as transformers does; the options are those with which training documents are encoded."""
        assert options["split_special_tokens"]
        assert not options["add_special_tokens"]
        return {"input_ids": [self.encode(text.split()) for text in texts]}

    def encode(self, words: list[str]) -> list[int]:
        """Return the ids."""
        return [self.ids.setdefault(word, len(self.ids)) for word in words]


TOKENIZER: Any = Words()


def encoded(words: list[str]) -> EncodedDocument:
    """Return a training document of these words."""
    return EncodedDocument(Document("", "d"), np.array(TOKENIZER.encode(words), dtype=np.int32))


def built(registry: Registry, path: Path, texts: list[str], skipped: Any = None, **options: Any) -> TokenFilter:
    """Return the filter against files of these texts."""
    for number, text in enumerate(texts):
        (path / f"{number:03}.txt").write_text(text)
    against = [{"kind": "files", "paths": [str(path / "*.txt")]}]
    cls: Any = registry.components["filter"]["leakage"]
    stated = cls.model_validate({"kind": "leakage", "against": against, **options}, context=registry.context)
    context = Context(tokenizer=TOKENIZER, **({"skipped": skipped} if skipped else {}))
    judge: TokenFilter = stated.build(context)
    return judge


@pytest.mark.parametrize(("quoted", "dropped"), [(0, False), (12, False), (13, True), (14, True), (30, True)])
def test_quotation(registry: Registry, tmp_path: Path, quoted: int, dropped: bool) -> None:
    """Thirteen tokens in a row are a leak wherever they stand, twelve are not."""
    judge = built(registry, tmp_path, [" ".join(EVAL)])
    for before in (0, 1, 100):
        words = [f"t{number}" for number in range(before)] + EVAL[-quoted:] * (quoted > 0) + ["end"]
        assert judge(encoded(words)) == (SHARED if dropped else None)


def test_allowed(registry: Registry, tmp_path: Path) -> None:
    """A document stays while it is within either allowance."""
    words = [f"t{number}" for number in range(100)]
    document = encoded(words + EVAL[:17])  # 5 of its 105 13-grams
    for options, dropped in (
        ({"max_matches": 5}, False),
        ({"max_matches": 4}, True),
        ({"max_ratio": 5 / 105}, False),
        ({"max_ratio": 0.047}, True),
        ({"max_matches": 4, "max_ratio": 0.1}, False),
        ({"max_matches": 9, "max_ratio": 0.01}, False),
        ({"ngram": 18}, False),
        ({"ngram": 17}, True),
    ):
        judge = built(registry, tmp_path, [" ".join(EVAL)], **options)
        assert (judge(document) is not None) is dropped, options


def test_all_held_out_documents_count(registry: Registry, tmp_path: Path) -> None:
    """More documents than are tokenised at once, each of which leaks."""
    texts = [" ".join(f"{number}:{place}" for place in range(13)) for number in range(150)]
    judge = built(registry, tmp_path, texts)
    assert all(judge(encoded(text.split())) == SHARED for text in texts)
    assert judge(encoded(texts[0].split()[:12] + texts[1].split()[:12])) is None, "none spans two documents"


def test_matches_counted_by_sets() -> None:
    """The number of places is that which sets of plain n-grams give."""
    generator = np.random.default_rng(9)
    for ngram in (1, 2, 3, 7):
        ids, others = generator.integers(0, 4, (2, 500)).astype(np.int32)
        windows, held = (np.lib.stride_tricks.sliding_window_view(tokens, ngram).tolist() for tokens in (ids, others))
        index = HeldOut.of(np.unique(ngram_hashes(others, ngram)), ngram)
        assert index.matches(ids) == sum(window in held for window in windows)


def test_short_documents(registry: Registry, tmp_path: Path) -> None:
    """A training document shorter than an n-gram stays; a held-out one is told of; all of them are an error."""
    told: list[tuple[str, str]] = []
    judge = built(
        registry, tmp_path, ["too short", " ".join(EVAL), " ".join(EVAL[:13])], lambda *said: told.append(said)
    )
    assert [judge(encoded(EVAL[:length])) for length in (0, 1, 12, 13)] == [None, None, None, SHARED]
    ((name, reason),) = told
    assert name.endswith("000.txt")
    assert "shorter than 13 tokens" in reason
    with pytest.raises(DataError, match=r"no document of `against` has 13 tokens"):
        held_out([Document("too short", "a")], TOKENIZER, 13, lambda *_: None)
    with pytest.raises(DataError, match=r"no document of `against` has 13 tokens"):
        held_out([], TOKENIZER, 13, lambda *_: None)


def test_needs_a_tokenizer(registry: Registry, tmp_path: Path) -> None:
    """Without one there is nothing to compare, which is said."""
    cls: Any = registry.components["filter"]["leakage"]
    against = [{"kind": "files", "paths": [str(tmp_path / "*.txt")]}]
    options = cls.model_validate({"kind": "leakage", "against": against}, context=registry.context)
    with pytest.raises(DataError, match="no tokenizer"):
        options.build(Context())


@pytest.mark.torch
def test_special_tokens_in_held_out_text() -> None:
    """The text of a special token is encoded as text, as it is in training documents, and then matches."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bytes_only = Tokenizer(models.BPE())
    bytes_only.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytes_only.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bytes_only.train_from_iterator([], trainers.BpeTrainer(vocab_size=256, initial_alphabet=alphabet))
    fast: Any = PreTrainedTokenizerFast
    tokenizer = fast(tokenizer_object=bytes_only, eos_token="<|end|>")
    text = "an answer <|end|> of a benchmark"
    judge = LeakageFilter(held_out([Document(text, "e")], tokenizer, len(text), lambda *_: None), 0, 0.0)
    ids = tokenizer("before " + text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    assert len(ids) == len("before " + text)
    assert judge(EncodedDocument(Document("", "d"), np.array(ids, dtype=np.int32))) is not None
    assert judge(EncodedDocument(Document("", "d"), np.array(ids[:-1], dtype=np.int32))) is None
