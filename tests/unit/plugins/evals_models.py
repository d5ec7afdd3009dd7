"""Tokenizers and models for the tests of evals: random weights, no file."""

from __future__ import annotations

from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

FOX = "The quick brown fox jumps over the lazy dog, 12 345 times in 1990. "


def tokenizer(merges: int = 0, *, begins: bool = False, **options: Any) -> PreTrainedTokenizerFast:
    """Return a tokenizer of bytes with some merges, and a begin token where asked for."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    built = Tokenizer(models.BPE())
    built.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    built.decoder = decoders.ByteLevel()
    special = ["<s>"] if begins else []
    trainer = trainers.BpeTrainer(
        vocab_size=256 + len(special) + merges,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    built.train_from_iterator([FOX, *(f"{number}" for number in range(0, 100_000, 37))], trainer)
    if begins:
        built.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
        options["bos_token"] = "<s>"
    return PreTrainedTokenizerFast(tokenizer_object=built, **options)


def model(**changes: Any) -> LlamaForCausalLM:
    """Return a small random model."""
    torch.manual_seed(0)
    options: dict[str, Any] = {
        "vocab_size": 400, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "eos_token_id": None,
        "num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 128, "initializer_range": 0.3,
    }  # fmt: skip
    return LlamaForCausalLM(LlamaConfig(**{**options, **changes})).eval()
