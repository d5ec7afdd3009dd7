"""What the benchmarks on GPUs train: a model of random weights, a tokenizer as large as its vocabulary, and texts.

All lies in a folder that is made once: a whole checkpoint loads in seconds where random weights take minutes.
"""

from __future__ import annotations

import json
import random
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LLAMA = {"model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
         "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128_256, "max_position_embeddings": 1 << 21,
         "rope_parameters": {"rope_type": "default", "rope_theta": 500_000.0}}  # fmt: skip
TINY = {**LLAMA, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
        "num_key_value_heads": 2, "vocab_size": 300, "max_position_embeddings": 4096}  # fmt: skip
LORA = {"r": 16, "lora_alpha": 32, "target_modules": "all-linear"}
END = "w0"
OUT_OF_MEMORY = 7
"""The exit code of ctxkit."""
ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Inputs:
    """The folder and what is in it."""

    folder: Path
    config: Mapping[str, Any]

    @property
    def model(self) -> Path:
        """Weights, config and tokenizer."""
        return self.folder / "model"

    def texts(self, tokens: int, rows: int) -> Path:
        """Return a file of texts, one a line, each of exactly so many tokens with its end token; made once."""
        file = self.folder / f"texts-{tokens}-{rows}.jsonl"
        if not file.exists():
            drawn = random.Random(tokens)
            words = (
                (drawn.randrange(1, int(self.config["vocab_size"])) for _ in range(tokens - 1)) for _ in range(rows)
            )
            lines = (json.dumps({"text": " ".join(f"w{word}" for word in row)}) for row in words)
            file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return file

    def make(self) -> None:
        """Make the model and its tokenizer, unless they are there."""
        if (self.model / "made").exists():
            return
        vocabulary = {f"w{number}": number for number in range(int(self.config["vocab_size"]))}
        tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=END))
        tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, pad_token=END).save_pretrained(self.model)
        keys = dict(self.config)
        config = AutoConfig.for_model(keys.pop("model_type"), **keys, eos_token_id=0, pad_token_id=0, bos_token_id=None)
        torch.manual_seed(0)
        with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
            made = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
        made.save_pretrained(self.model)
        (self.model / "made").touch()


def recipe(inputs: Inputs, tokens: int, steps: int, rows: int, sections: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recipe that trains rows of so many tokens for a few steps and saves nothing on the way.

    Args:
        inputs: What it trains.
        tokens: Of each row.
        steps: How many.
        rows: Of a step, over all processes.
        sections: Laid over it; `train` key by key.
    """
    train = {
        "max_steps": steps, "per_device_train_batch_size": 1, "learning_rate": 1e-4, "logging_steps": 1,
        "save_strategy": "no", "bf16": torch.cuda.is_available(), "lr_scheduler_type": "constant",
    }  # fmt: skip
    base: dict[str, Any] = {
        "name": "bench",
        "model": {"name_or_path": str(inputs.model), "dtype": "bfloat16", "original_max_position_embeddings": tokens},
        "adapter": LORA,
        "data": {
            "sources": [{"kind": "files", "paths": [str(inputs.texts(tokens, rows * (steps + 1)))]}],
            "chunker": {"kind": "overlap", "length": tokens},
        },
    }
    return {**base, **sections, "train": {**train, **sections.get("train", {})}}


def run_recipe(made: Mapping[str, Any], folder: Path, line: Sequence[str], limit: float) -> dict[str, Any]:
    """Run a recipe by a line of `ctxkit`, and return loss by step, tokens/s without the first step, and peak bytes.

    Args:
        made: The recipe.
        folder: Of the run; the recipe is written beside it.
        line: Words before the recipe, `ctxkit run` or `ctxkit launch`, and behind it; `{}` is the recipe.
        limit: Seconds after which it is ended.

    Raises:
        SystemExit: it failed, and not for want of memory.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "recipe.yaml"
    file.write_text(yaml.safe_dump(dict(made)), encoding="utf-8")
    words = [word.replace("{}", str(file)) for word in line] + ["--run-dir", str(folder / "run")]
    began = time.monotonic()
    try:
        done = subprocess.run(words, check=False, capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        return {"failed": f"longer than {limit:.0f} s"}
    if done.returncode:
        said = [text for text in done.stderr.splitlines() if text.startswith("error:")] or ["see run.json"]
        if done.returncode == OUT_OF_MEMORY or "out of memory" in done.stderr:
            return {"failed": "out of memory"}
        raise SystemExit(f"{file} ended with exit code {done.returncode}: {said[0]}")
    lines = [json.loads(text) for text in (folder / "run/metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return {**summary([one for one in lines if "loss" in one]), "wall_seconds": time.monotonic() - began}


def summary(logged: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what is reported of a run from the lines that it logged, one a step."""
    first, last = logged[0], logged[-1]
    tokens = last["num_input_tokens_seen"] - first["num_input_tokens_seen"]
    seconds = last["seconds"] - first["seconds"]
    return {
        "losses": [one["loss"] for one in logged],
        "tokens_per_second": tokens / seconds if seconds else None,
        "peak_bytes": max(one["peak_memory_bytes"] for one in logged),
    }
