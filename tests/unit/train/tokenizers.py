"""Small tokenizers of the designs that models have, trained on the standard library."""

from __future__ import annotations

import functools
import json
import sysconfig
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

CONTROL = ("<eos>", "<unk>", "<|im_start|>", "<|im_end|>")
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""The split of Llama 3."""
SLASHES = LLAMA3.replace(r"[\r\n]*", r"[\r\n/]*")
"""As in o200k: marks of punctuation take slashes after the line end with them."""
C_CODE = "".join(f"int f{number}(int a);\n// comment {number}\nvoid g{number}();\n/* x */\n" for number in range(800))


@functools.cache
def stdlib(*names: str) -> list[str]:
    """Return modules of the standard library."""
    folder = Path(sysconfig.get_path("stdlib"))
    return [file.read_text(encoding="utf-8") for name in names for file in sorted(folder.glob(name))]


def corpus() -> list[str]:
    """Return what the tokenizers are trained on: code, and prose in it."""
    return [*stdlib("json/*.py", "email/message.py", "textwrap.py", "this.py"), C_CODE]


def _split(pattern: str) -> pre_tokenizers.PreTokenizer:
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"), byte_level])


BYTE_LEVEL = {
    "gpt2": lambda: pre_tokenizers.ByteLevel(add_prefix_space=False),
    "prefix space": lambda: pre_tokenizers.ByteLevel(add_prefix_space=True),
    "llama3": lambda: _split(LLAMA3),
    "o200k": lambda: _split(SLASHES),
    "no split": lambda: pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
}
METASPACE = {
    "metaspace": lambda: pre_tokenizers.Metaspace(prepend_scheme="first"),
    "metaspace always": lambda: pre_tokenizers.Metaspace(prepend_scheme="always"),
}
DESIGNS = (*BYTE_LEVEL, *METASPACE, "sentencepiece")
EXACT = ("gpt2", "prefix space", "llama3", "o200k", *METASPACE)
"""Those whose long texts may be cut."""


@functools.cache
def trained(design: str) -> PreTrainedTokenizerFast:
    """Return a tokenizer of a design."""
    byte_level = design in BYTE_LEVEL
    built = Tokenizer(models.BPE() if byte_level else models.BPE(unk_token="<unk>", fuse_unk=True))
    if design == "sentencepiece":
        built.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        built.pre_tokenizer = {**BYTE_LEVEL, **METASPACE}[design]()
    built.decoder = decoders.ByteLevel() if byte_level else decoders.Metaspace()
    slow = design in ("no split", "sentencepiece")  # without words, training takes long
    trainer = trainers.BpeTrainer(
        vocab_size=600 if slow else 2000,
        special_tokens=list(CONTROL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet() if byte_level else [],
        show_progress=False,
    )
    built.train_from_iterator([text[:4000] for text in corpus()] if slow else corpus(), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=built, eos_token="<eos>", unk_token="<unk>")


def with_template(tokenizer: PreTrainedTokenizerFast, template: str | None) -> PreTrainedTokenizerFast:
    """Return a copy of a tokenizer with a chat template."""
    copy = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, eos_token="<eos>", unk_token="<unk>")
    copy.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    copy.chat_template = template
    return copy


def spelled(tokenizer: PreTrainedTokenizerFast, ids: list[int]) -> str:
    """Return tokens as a readable line, for messages of failed tests."""
    return json.dumps(tokenizer.convert_ids_to_tokens(ids), ensure_ascii=False)
