"""Compare the memory that `ctxkit plan` predicts with torch's MemTracker, without a GPU.

    python benchmarks/plan_memory.py

It writes `benchmarks/results/plan_memory.md`; what the table has already is not tracked again, unless `--fresh`.

Each row is a whole training step; see `benchmarks/memory_tracking.py` for how it is tracked. The formula is asked for
what the tracker can see (`Backend` TRACKED): no kernel's workspace, and gradients summed out of place, as fake tensors
do it. The ratio is formula / tracker.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.memory_tracking import Case, tracked
from ctxkit_planner.memory import memory
from ctxkit_planner.setup import Adapter, Setup
from ctxkit_planner.shape import shape_of
from ctxkit_planner.sizes import TRACKED

if TYPE_CHECKING:
    from collections.abc import Iterator

GIB = 2**30
TABLE = Path(__file__).parent / "results" / "plan_memory.md"
HEAD = (
    "# Predicted memory against torch's MemTracker",
    "",
    "Written by `python benchmarks/plan_memory.py`.",
    "GiB of one device at the peak of a step, without fragmentation and CUDA's context.",
    "",
    "| model | tokens | technique | formula | tracker | ratio |",
    "|---|---|---|---|---|---|",
)
LLAMA_8B = {
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
}
LLAMA_1B = LLAMA_8B | {
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "head_dim": 64,
    "tie_word_embeddings": True,
}
QWEN_05B = {
    "hidden_size": 896,
    "intermediate_size": 4864,
    "num_hidden_layers": 24,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
    "vocab_size": 151936,
    "tie_word_embeddings": True,
}
QWEN3_17B = {
    "hidden_size": 2048,
    "intermediate_size": 6144,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "tie_word_embeddings": True,
}
GEMMA = {"num_hidden_layers": 26, "hidden_size": 1152, "intermediate_size": 6912, "num_key_value_heads": 1}
GEMMA |= {"num_attention_heads": 4, "vocab_size": 262144, "sliding_window": 512}
MODELS = {
    "Llama 8B": ("llama", LLAMA_8B),
    "Llama 1B": ("llama", LLAMA_1B),
    "Qwen2.5 0.5B": ("qwen2", QWEN_05B),
    "Qwen3 1.7B": ("qwen3", QWEN3_17B),
    "Gemma 3 1B": ("gemma3_text", GEMMA),
    "Phi-3 mini": ("phi3", {}),
    "StarCoder2 3B": ("starcoder2", {}),
    "OLMo 2 7B": ("olmo2", {}),
    "GPT-NeoX 20B": ("gpt_neox", {}),
}
LORA = Adapter(r=16)
TECHNIQUES = {
    "full, bf16": Setup(),
    "full, fp32 weights": Setup(weights="float32"),
    "LoRA fp32": Setup(adapter=LORA),
    "LoRA bf16": Setup(adapter=replace(LORA, dtype_bytes=2)),
    "LoRA fp32, no checkpointing": Setup(adapter=LORA, checkpointing="none"),
    "full, no checkpointing": Setup(checkpointing="none"),
    "LoRA fp32, full logits": Setup(adapter=LORA, loss="full"),
    "LoRA fp32, 2 rows": Setup(adapter=LORA, rows=2),
}
LENGTHS = {"Llama 8B": (2048, 32768, 131072), "Llama 1B": (8192, 131072), "Qwen2.5 0.5B": (32768,)}
LONG = 100_000
"""Tokens from which only few techniques are tracked, and so for the models that stand for their architecture."""
OTHERS = ("full, bf16", "LoRA fp32", "LoRA bf16")


FSDP = Setup(weights="float32", sharding="fsdp", shards=8, loss="full")


def cases() -> Iterator[tuple[str, Case]]:
    """Yield every row of the table with the name of its technique."""
    for tokens in (8192, 32768):
        case = Case("Llama 8B, 4 layers", tokens, FSDP, "llama", LLAMA_8B | {"num_hidden_layers": 4})
        yield "full, FSDP2 over 8 ranks, full logits", case
    for model, (model_type, keys) in MODELS.items():
        for tokens in LENGTHS.get(model, (8192,)):
            for name, setup in TECHNIQUES.items():
                if (model in LENGTHS and tokens < LONG) or name in OTHERS:
                    yield name, Case(model, tokens, setup, model_type, keys)


def row(name: str, case: Case, tracked_before: dict[str, float]) -> tuple[str, float]:
    """Return one row of the table, and the ratio of formula and tracker."""
    shape = shape_of(case.config().to_dict())
    formula = memory(shape, case.setup, case.tokens, TRACKED).allocated_bytes / GIB
    head = f"| {case.model} | {case.tokens:,} | {name} |"
    seen = tracked_before.get(head) or tracked(case) / GIB
    return f"{head} {formula:.2f} | {seen:.2f} | {formula / seen:.3f} |", formula / seen


def before() -> dict[str, float]:
    """Return what the tracker said of the rows that the table has already."""
    lines = TABLE.read_text(encoding="utf-8").splitlines() if TABLE.exists() else []
    rows = [line.split("|") for line in lines if line.count("|") == 7 and line.split("|")[5].strip()[:1].isdigit()]
    return {"|".join(cells[:4]) + "|": float(cells[5]) for cells in rows}


def main() -> None:
    """Write the table and, below it, how many rows are within 5 %."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fresh", action="store_true", help="track again what the table has already")
    known = {} if parser.parse_args().fresh else before()
    warnings.filterwarnings("ignore")
    lines, ratios = list(HEAD), []
    for name, case in cases():
        line, ratio = row(name, case, known)
        lines.append(line)
        ratios.append(ratio)
        near = sum(abs(one - 1) <= 0.05 for one in ratios)
        end = f"{near} of {len(ratios)} within 5 %; lowest {min(ratios):.3f}, highest {max(ratios):.3f}."
        TABLE.write_text("\n".join([*lines, "", end, ""]), encoding="utf-8")
        print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
