"""Compare the largest windows that `ctxkit plan` predicts with published ones.

python benchmarks/plan_published.py

Prints the table of docs/plan-memory.md. Host memory is not bounded here, since the publications rarely say it.
"""

from __future__ import annotations

import math
from dataclasses import replace

from ctxkit_planner.memory import largest_window
from ctxkit_planner.setup import Adapter, Setup
from ctxkit_planner.shape import shape_of

LLAMA_8B = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
}
LLAMA_70B = LLAMA_8B | {
    "hidden_size": 8192,
    "intermediate_size": 28672,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
}
GIB = 2**30
H100, H200 = 79.6 * GIB, 139.8 * GIB
EIGHT = Setup(attention="flash", sharding="zero3", shards=8, offload_optimizer="cpu", loss="full")
ONE = replace(EIGHT, shards=1, offload_param="cpu")
FUSED = replace(EIGHT, loss="liger", liger_layers=True)
ULYSSES = replace(FUSED, sequence="ulysses", sequence_size=8)
TILE = 4096
QLORA = Setup(attention="flash", weights="nf4", adapter=Adapter(r=32, dtype_bytes=2))
BOTH = {"mlp_tile": TILE, "activation_offload": True}
ALST, UNSLOTH = "ALST, arXiv 2506.13996 and its recipes", "Unsloth, blog of December 2024"

CASES = [
    ("8x H100, 8B full, ZeRO-3, optimizer on the host", ALST, 32, LLAMA_8B, EIGHT, H100),
    ("the same with liger", ALST, 160, LLAMA_8B, FUSED, H100),
    ("and Ulysses over 8", ALST, 1100, LLAMA_8B, ULYSSES, H100),
    ("and tiled feed-forward", ALST, 1200, LLAMA_8B, replace(ULYSSES, mlp_tile=TILE), H100),
    ("or activations on the host", ALST, 2400, LLAMA_8B, replace(ULYSSES, activation_offload=True), H100),
    ("both", ALST, 3700, LLAMA_8B, replace(ULYSSES, **BOTH), H100),
    (
        "1x H100, 8B full, all states on the host, both",
        ALST,
        500,
        LLAMA_8B,
        _one := replace(ONE, loss="liger", liger_layers=True, **BOTH),
        H100,
    ),
    ("1x H200, 8B full, all states on the host", ALST, 65, LLAMA_8B, ONE, H200),
    ("the same with liger", ALST, 300, LLAMA_8B, replace(ONE, loss="liger", liger_layers=True), H200),
    ("and activations on the host", ALST, 650, LLAMA_8B, replace(_one, mlp_tile=None), H200),
    ("and tiled feed-forward", ALST, 1200, LLAMA_8B, _one, H200),
    ("1x 80 GB, 8B QLoRA, transformers with flash attention", UNSLOTH, 28, LLAMA_8B, replace(QLORA, loss="full"), H100),
    ("the same with Unsloth", UNSLOTH, 342, LLAMA_8B, replace(QLORA, activation_offload=True), H100),
    ("1x 80 GB, 70B QLoRA, transformers", UNSLOTH, 6.9, LLAMA_70B, replace(QLORA, loss="full"), H100),
    ("the same with Unsloth", UNSLOTH, 89, LLAMA_70B, replace(QLORA, activation_offload=True), H100),
]


def main() -> None:
    """Print the table."""
    print("| setting | published, k tokens | predicted, k tokens | predicted / published | source |")
    print("|---|---|---|---|---|")
    for words, source, published, config, setup, device in CASES:
        multiple = 1024 * setup.sequence_size
        found = largest_window(shape_of(config), setup, device, math.inf, multiple) / 1000
        print(f"| {words} | {published:,} | {found:,.0f} | {found / published:.2f} | {source} |")


if __name__ == "__main__":
    main()
