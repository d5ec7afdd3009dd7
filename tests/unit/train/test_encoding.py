"""Text to ids: blocks change nothing, special tokens in a text stay text, and nothing gets lost."""

from __future__ import annotations

import copy
import functools
import statistics
from itertools import chain

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models
from transformers import PreTrainedTokenizer, PreTrainedTokenizerFast

from ctxkit.train import encoding
from ctxkit.train.encoding import Encoder, id_type, special_pattern
from tests.unit.train.builders import byte_tokenizer
from tests.unit.train.tokenizers import C_CODE, DESIGNS, EXACT, stdlib, trained

pytestmark = pytest.mark.torch

STRANGE = "naïve 数据 слово\r\n\r\n\tdon't  3.14159 🙂 x\u0301 y\u00a0z <|im_end|> end.\n\n\n" * 40
PIECES = [
    "a", "b ", "de", " f", "x\n", "\n", "\n\n", "\r\n", "\r", " ", "  ", "\t", "1", " 4", "²", " ²", "é", "e\u0301",
    "\u0301", "\u00a0", "\u2028", "🙂", "'s", "(", ");", "/", "//", "_", "一", "的 ", "\ufeff", "\u200d", " ǅ", "<eos>",
]  # fmt: skip


@functools.cache
def encoder_of(design: str) -> Encoder:
    """Return the encoder of a tokenizer."""
    return Encoder(trained(design))


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of a few hundred characters."""
    monkeypatch.setattr(encoding, "BLOCK_CHARACTERS", 300)
    monkeypatch.setattr(encoding, "LONGEST_BLOCK", 3000)


def in_blocks(encoder: Encoder, text: str) -> tuple[list[str], list[int]]:
    """Return the blocks of a text and their ids in a row."""
    blocks = list(encoder.blocks(text))
    return blocks, list(chain.from_iterable(encoder(blocks)))


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("design", DESIGNS)
def test_blocks_give_the_ids_of_the_whole(design: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """For every design of tokenizer, texts seen and unseen; where cutting would change ids, nothing is cut."""
    monkeypatch.setattr(encoding, "LONGEST_BLOCK", 10**6)
    tokenizer, encoder = trained(design), encoder_of(design)
    for text in [*stdlib("json/decoder.py", "ast.py", "heapq.py"), C_CODE, STRANGE]:
        blocks, ids = in_blocks(encoder, text)
        assert "".join(blocks) == text
        assert ids == tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        assert (len(blocks) > 3) == (design in EXACT)


@pytest.mark.parametrize("design", EXACT)
@settings(max_examples=50, deadline=None)
@given(pieces=st.lists(st.sampled_from(PIECES), max_size=40))
def test_a_cut_anywhere_is_harmless(design: str, pieces: list[str]) -> None:
    """Blocks of a few characters over strange text give the ids of the whole."""
    text = "".join(pieces)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoding, "BLOCK_CHARACTERS", 5)
        patch.setattr(encoding, "LONGEST_BLOCK", 10_000)
        blocks, ids = in_blocks(encoder_of(design), text)
    assert "".join(blocks) == text
    assert ids == encoder_of(design)([text])[0]


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize(
    "line", ["a" * 10_000, "0123456789" * 1000, "🙂" * 4000, "é_" * 5000], ids=lambda line: line[0]
)
@pytest.mark.parametrize("design", ["gpt2", "llama3"])
def test_line_without_a_harmless_place_keeps_every_character(design: str, line: str) -> None:
    """It is cut all the same, at the longest block, and decodes to itself."""
    blocks, ids = in_blocks(encoder_of(design), line)
    assert max(map(len, blocks)) == 3000
    assert trained(design).decode(ids, clean_up_tokenization_spaces=False) == line


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("design", sorted(set(DESIGNS) - set(EXACT)))
def test_text_of_any_tokenizer_is_cut_in_the_end(design: str) -> None:
    """Where no cut is harmless, the longest block ends after a line: memory stays flat, every character is kept."""
    text = stdlib("ast.py")[0]
    blocks, _ = in_blocks(encoder_of(design), text)
    assert "".join(blocks) == text
    assert max(map(len, blocks)) <= 3000
    assert all(block.endswith("\n") for block in blocks)


@pytest.mark.parametrize("text", ["a <|file_sep|> b", "<tool_call>x</tool_call>", "[INST] y [/INST]"])
def test_structure_that_a_tokenizer_does_not_call_special_is_split(text: str) -> None:
    """Qwen2.5-Coder's `<|file_sep|>` is an added token and not special; in a text it must stay text all the same."""
    tokenizer = copy.deepcopy(trained("gpt2"))
    names = ["<|file_sep|>", "<tool_call>", "</tool_call>", "[INST]", "[/INST]"]
    tokenizer.add_tokens([AddedToken(name, special=False, normalized=False) for name in names])
    new = {tokenizer.convert_tokens_to_ids(name) for name in names}
    assert new & {*tokenizer(text, split_special_tokens=True)["input_ids"]}  # transformers alone does not split them
    (ids,) = Encoder(tokenizer)([text])
    assert not new & {*ids}
    assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text
    pattern = special_pattern(tokenizer)
    assert pattern is not None
    assert pattern.search(text)


@pytest.mark.usefixtures("small_blocks")
def test_blocks_are_about_as_long_as_said() -> None:
    """Code with a place in most lines is cut close to the stated size, and only the last block is shorter."""
    sizes = [len(block) for block in encoder_of("gpt2").blocks(stdlib("ast.py")[0])]
    assert min(sizes[:-1]) >= 300
    assert statistics.median(sizes) < 400


def test_long_text_is_cut_as_it_is_by_default() -> None:
    """Almost a megabyte, the constants as they are: blocks near their size with the ids of the whole."""
    text = "".join(stdlib("ast.py", "argparse.py", "typing.py", "turtle.py")) * 2
    encoder = encoder_of("llama3")
    blocks, ids = in_blocks(encoder, text)
    assert len(blocks) == pytest.approx(len(text) / encoding.BLOCK_CHARACTERS, rel=0.2)
    assert ids == encoder([text])[0]


def test_empty_text_is_one_block() -> None:
    """A document without text has a block, to carry its begin and end tokens."""
    encoder = encoder_of("gpt2")
    assert list(encoder.blocks("")) == [""]
    assert encoder([""]) == [[]]


@pytest.mark.parametrize("design", DESIGNS)
def test_special_tokens_in_a_text_are_split(design: str) -> None:
    """No text gives a control id, whatever the tokenizer itself would do."""
    tokenizer = trained(design)
    (ids,) = encoder_of(design)(["one <eos><|im_end|> two <|im_start|>"])
    assert not {tokenizer.convert_tokens_to_ids(token) for token in ("<eos>", "<|im_end|>", "<|im_start|>")} & {*ids}
    if design in ("gpt2", "llama3", "o200k"):
        assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == "one <eos><|im_end|> two <|im_start|>"


def test_settings_of_the_tokenizer_stay() -> None:
    """The encoder neither truncates nor pads, and leaves what the tokenizer does as it was."""
    tokenizer = byte_tokenizer()
    tokenizer.backend_tokenizer.enable_truncation(3)
    tokenizer.backend_tokenizer.enable_padding(length=50)
    try:
        assert len(Encoder(tokenizer)(["12345678"])[0]) == 8
        assert tokenizer.backend_tokenizer.truncation["max_length"] == 3
        assert tokenizer.backend_tokenizer.padding["length"] == 50
    finally:
        tokenizer.backend_tokenizer.no_truncation()
        tokenizer.backend_tokenizer.no_padding()


class Characters(PreTrainedTokenizer):
    """A tokenizer written in Python: one token a character, and no backend to copy."""

    def __init__(self) -> None:
        super().__init__(eos_token="<eos>")

    @property
    def vocab_size(self) -> int:
        return 1000

    def get_vocab(self) -> dict[str, int]:
        return {chr(index): index for index in range(1000)} | self.added_tokens_encoder

    def _tokenize(self, text: str) -> list[str]:
        return list(text)

    def _convert_token_to_id(self, token: str) -> int:
        return min(ord(token), 999)

    def _convert_id_to_token(self, index: int) -> str:
        return chr(index)


@pytest.mark.usefixtures("small_blocks")
def test_tokenizer_without_a_backend() -> None:
    """The slow way gives its ids, special tokens split, in blocks or not."""
    encoder = Encoder(Characters())
    assert encoder(["a<eos>"]) == [[ord(letter) for letter in "a<eos>"]]
    text = stdlib("heapq.py")[0]
    blocks, ids = in_blocks(encoder, text)
    assert len(blocks) > 1
    assert ids == [min(ord(letter), 999) for letter in text]


def test_pattern_finds_spelled_special_tokens_and_nothing_else() -> None:
    """The longest first, added ones included, and their signs taken as they are."""
    pattern = special_pattern(trained("gpt2"))
    assert pattern is not None
    assert pattern.findall("a <|im_end|> b <eos> <|im_end <EOS> |im_end|") == ["<|im_end|>", "<eos>"]


@pytest.mark.parametrize(("largest", "kind"), [(65_535, "<u2"), (65_536, "<i4")])
def test_id_type_holds_every_id(largest: int, kind: str) -> None:
    """Two bytes below 65,536, else four, by the largest id: a vocabulary with a gap has fewer tokens than that."""
    words = Tokenizer(models.WordLevel({"a": 0, "b": largest}, unk_token="a"))
    dtype = id_type(PreTrainedTokenizerFast(tokenizer_object=words))
    assert dtype.str == kind
    assert int(np.array([largest]).astype(dtype)[0]) == largest
