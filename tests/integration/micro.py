"""A recipe that trains in a second, and readers of what it leaves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RECIPE = """\
name: micro
model:
  config:
    model_type: llama
    hidden_size: 32
    intermediate_size: 64
    num_hidden_layers: 2
    num_attention_heads: 2
    num_key_value_heads: 2
    max_position_embeddings: 32
    tie_word_embeddings: true
    rope_parameters: {rope_type: default, rope_theta: 10000.0}
tokenizer:
  train: {vocab_size: 258}
train:
  bf16: false
  activation_checkpointing: false
  per_device_train_batch_size: 4
  learning_rate: 1.0e-2
  logging_steps: 1
  save_steps: 2
  save_total_limit: 2
  seed: 3
evals:
  - {kind: passkey, haystack: &text {kind: repeats, documents: 40, length: 200}, lengths: [32, 64], samples: 2,
     depths: [0.0, 1.0], needle: " k={key};", question: " k="}
  - {kind: perplexity, source: *text, lengths: [16, 64], windows: 4}
stages:
  - name: base
    data: {sources: [{kind: repeats, documents: 64, length: 31}], chunker: {kind: overlap, length: 32}}
    train: {max_steps: 8}
  - name: control
    rope: null
    data: &long
      sources: [{kind: repeats, documents: 40, length: 100}]
      chunker: {kind: overlap, length: 64, overlap: 8}
    train: {max_steps: 4}
  - name: yarn
    from: base
    rope: {kind: yarn, factor: 2}
    data: *long
    train: {max_steps: 4}
"""
HEAD = RECIPE[: RECIPE.index("evals:")]
"""A recipe without its stages, one itself."""
DATA = """\
data:
  sources:
    - {kind: repeats, documents: 10, length: 31}
    - {kind: repeats, documents: 6, length: 20, max_period: 10}
  chunker: {kind: overlap, length: 32}
"""


def losses(run_dir: Path) -> dict[tuple[str, int], float]:
    """Return the loss of every logged step by stage and step."""
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return {(line["stage"], line["step"]): line["loss"] for line in lines if "loss" in line}


def weights(folder: Path) -> dict[str, Any]:
    """Return the tensors of a saved model."""
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")
