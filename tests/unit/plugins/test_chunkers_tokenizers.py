"""The boundary table on real tokenizers: byte level with and without merges, and SentencePiece's decoder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from ctxkit.spec import Context, Document, EncodedDocument
from ctxkit_chunkers import ParagraphOptions
from ctxkit_chunkers.boundaries import BLANK_LINE, LINE, PLAIN, SENTENCE, BoundaryTable

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

pytestmark = pytest.mark.torch

TEXT = 'One line. Another "one."\nA second line\n\nA paragraph: 3.14 é\n  \nThe end.\n'
LLAMA3_SPLIT = Regex(r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)| ?\p{L}+|\p{N}{1,3}|\s+")


def byte_level(merges: int) -> Tokenizer:
    """Return a byte-level tokenizer trained on the text, splitting as Llama 3 does."""
    tokenizer = Tokenizer(models.BPE())
    byte_splitter = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(LLAMA3_SPLIT, "isolated"), byte_splitter])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=256 + merges, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([TEXT] * 4, trainer)
    return tokenizer


def sentence_piece() -> Tokenizer:
    """Return a tokenizer with Llama 2's spaces, byte fallback and decoder."""
    words = ["▁One", "▁line", ".", "▁Another", "▁", "A"]
    pieces = [(piece, -1.0) for piece in ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), *words]]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    replace, strip = decoders.Replace("▁", " "), decoders.Strip(" ", 1, 0)
    tokenizer.decoder = decoders.Sequence([replace, decoders.ByteFallback(), decoders.Fuse(), strip])
    return tokenizer


def wrapped(tokenizer: Tokenizer) -> PreTrainedTokenizerBase:
    """Return the tokenizer as transformers hands it to a plugin."""
    from transformers import PreTrainedTokenizerFast

    fast: Any = PreTrainedTokenizerFast
    wrapper: PreTrainedTokenizerBase = fast(tokenizer_object=tokenizer)
    return wrapper


def boundaries(tokenizer: Tokenizer, text: str) -> list[tuple[str, int]]:
    """Return the text up to each boundary that is more than a token's end, and its strength."""
    encoding = tokenizer.encode(text)
    strengths = BoundaryTable.of(wrapped(tokenizer)).strengths(np.array(encoding.ids, dtype=np.int32))
    places = [end for _, end in encoding.offsets]
    return [(text[:end], level) for end, level in zip(places, strengths.tolist(), strict=True) if level != PLAIN]


EXPECTED = [
    ("One line.", SENTENCE),
    ('One line. Another "one."\n', LINE),
    ('One line. Another "one."\nA second line\n\n', BLANK_LINE),
    (TEXT.removesuffix("The end.\n"), BLANK_LINE),
    (TEXT, LINE),
]


@pytest.mark.parametrize("merges", [0, 20, 80])
def test_byte_level(merges: int) -> None:
    """Byte-level vocabularies give the same blank lines and sentences, however much is merged."""
    found = boundaries(byte_level(merges), TEXT)
    assert [hit for hit in EXPECTED if hit not in found] == []
    # within a run of whitespace, smaller tokens see more line ends
    extra = {text.rstrip() for text, _ in found} - {text.rstrip() for text, _ in EXPECTED}
    assert extra == set()


def test_byte_level_merges_blank_lines() -> None:
    """The merged vocabulary of these tests really holds a blank line as one token."""
    assert "ĊĊ" in byte_level(80).get_vocab()
    assert "ĊĊ" not in byte_level(0).get_vocab()


def test_sentence_piece() -> None:
    """Byte fallback gives line ends, and the space that its decoder strips still ends a sentence."""
    text = "One line. Another.A\n\nA"
    tokenizer = sentence_piece()
    assert tokenizer.encode(text).tokens[-3:] == ["<0x0A>", "<0x0A>", "A"]
    assert [level for _, level in boundaries(tokenizer, text)] == [SENTENCE, LINE, BLANK_LINE]


def test_chunks_of_a_real_tokenizer() -> None:
    """From options to chunks: a real tokenizer's ids are cut after the blank line and decode to the text."""
    tokenizer: Any = wrapped(byte_level(20))
    ids = np.array(tokenizer(TEXT)["input_ids"], dtype=np.int32)
    chunker = ParagraphOptions(kind="paragraph", length=len(ids) - 2, min_length=2).build(Context(tokenizer=tokenizer))
    texts = [tokenizer.decode(chunk.input_ids) for chunk in chunker([EncodedDocument(Document(TEXT, "d"), ids)])]
    assert texts == [TEXT.removesuffix("The end.\n"), "The end.\n"]
