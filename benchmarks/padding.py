"""Compare a training step on padded rows with that of plain TRL, which builds a mask of tokens x tokens for them.

One row of each length, three of its tokens padding, through the same model: forward and backward pass, one thread. In
each round both run one after the other, in the next round in the opposite order; a ratio is of one round, TRL / ctxkit,
and what is printed is the median of all rounds with the least and the greatest. The model is a toy: at the width of a
real one the share of attention, and with it the ratio, is another.

    python benchmarks/padding.py --lengths 2048,4096,8192 --rounds 5

On a GPU the same file says more, for there the mask also costs memory and the flash kernel: not run on a GPU.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, LlamaConfig
from trl import SFTConfig, SFTTrainer

from ctxkit.recipe import TokenizerTraining
from ctxkit.train.padding import without_mask
from ctxkit.train.tokenizer import byte_tokenizer

SHAPE = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2, "num_attention_heads": 4}
PADDING = 3
"""Tokens of padding in a row."""


def trainer(length: int, folder: Path) -> SFTTrainer:
    """Return TRL's trainer around a toy, on one row that is a little shorter than its batch."""
    torch.manual_seed(0)
    config = LlamaConfig(**SHAPE, num_key_value_heads=2, vocab_size=258, max_position_embeddings=length)
    row = torch.randint(0, 256, (length - PADDING,)).tolist()
    plain = {"bf16": False, "activation_checkpointing": False, "report_to": "none", "max_length": length}
    args = SFTConfig(
        output_dir=str(folder),
        use_cpu=not torch.cuda.is_available(),
        dataset_kwargs={"skip_prepare_dataset": True},
        pad_to_multiple_of=length,
        **plain,
    )
    return SFTTrainer(
        model=AutoModelForCausalLM.from_config(config, attn_implementation="sdpa"),
        args=args,
        train_dataset=Dataset.from_list([{"input_ids": row, "labels": row}]),
        processing_class=byte_tokenizer(TokenizerTraining(vocab_size=258)),
    )


def step(made: SFTTrainer) -> tuple[float, float]:
    """Return the seconds of a forward and backward pass, and the loss."""
    model: Any = made.model
    batch = made._prepare_inputs(made.data_collator([made.train_dataset[0]]))  # noqa: SLF001 - as a step does
    model.zero_grad()
    began = time.perf_counter()
    loss = made.compute_loss(model, batch)
    loss.backward()
    value = loss.item()  # waits for a GPU
    return time.perf_counter() - began, value


def measured(length: int, rounds: int, folder: Path) -> dict[str, Any]:
    """Return seconds and ratios at a length in tokens."""
    both = {"trl": trainer(length, folder), "ctxkit": trainer(length, folder)}
    without_mask(both["ctxkit"], "benchmark")
    losses = {name: step(made)[1] for name, made in both.items()}  # and warm
    seconds: dict[str, list[float]] = {name: [] for name in both}
    for number in range(rounds):
        for name in list(both)[:: 1 if number % 2 else -1]:
            seconds[name].append(step(both[name])[0])
    ratios = [trl / ours for trl, ours in zip(seconds["trl"], seconds["ctxkit"], strict=True)]
    return {
        "tokens": length,
        "seconds": {name: round(statistics.median(each), 3) for name, each in seconds.items()},
        "ratio": [round(value, 2) for value in (statistics.median(ratios), min(ratios), max(ratios))],
        "same_loss": abs(losses["trl"] - losses["ctxkit"]) < 1e-5,
    }


def main() -> None:
    """Print one line a length."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", default="2048,4096,8192")
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        for length in map(int, asked.lengths.split(",")):
            print(json.dumps(measured(length, asked.rounds, Path(folder))), flush=True)


if __name__ == "__main__":
    main()
