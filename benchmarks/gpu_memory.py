"""Compare the memory that `ctxkit plan` predicts with what torch's allocator counts on a GPU.

    python benchmarks/gpu_memory.py                 # all cases, about 10 minutes on one GPU of 80 GB
    python benchmarks/gpu_memory.py --only "Llama 8B"

Each case trains two optimizer steps with SFTTrainer, a model with random weights and rows of random tokens, in a
process of its own. Measured are `torch.cuda.max_memory_allocated` and `max_memory_reserved`. A case that is done is a
line of `benchmarks/results/gpu_memory.jsonl` and is not run again; the table beside it is written after each case.
What is predicted to take more than the GPU has is left out and named.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.plan_memory import MODELS
from ctxkit_planner.memory import memory
from ctxkit_planner.setup import Adapter, Setup
from ctxkit_planner.shape import shape_of

RESULTS = Path(__file__).parent / "results"
LINES, TABLE = RESULTS / "gpu_memory.jsonl", RESULTS / "gpu_memory.md"
GIB = 2**30
LORA = Adapter(r=16)
TECHNIQUES = {
    "LoRA fp32": Setup(adapter=LORA),
    "LoRA bf16": Setup(adapter=replace(LORA, dtype_bytes=2)),
    "LoRA fp32, activation offload": Setup(adapter=LORA, activation_offload=True),
    "LoRA fp32, selective": Setup(adapter=LORA, checkpointing="selective"),
    "LoRA fp32, no checkpointing": Setup(adapter=LORA, checkpointing="none"),
    "LoRA fp32, 2 rows": Setup(adapter=LORA, rows=2),
    "full, bf16": Setup(),
    "full, fp32 weights": Setup(weights="float32"),
    "full, bf16, 8-bit AdamW": Setup(optimizer="adamw_bnb_8bit"),
}
LIMIT = 120
"""Seconds after which a case is given up."""


FEW = ("LoRA fp32", "LoRA bf16", "full, bf16")
LONG = ("LoRA fp32", "LoRA bf16", "LoRA fp32, activation offload", "LoRA fp32, selective")


def cases() -> list[tuple[str, int, str]]:
    """Return model, tokens and technique of every case, the quick ones first."""
    found = [(model, 8192, name) for model in ("Qwen2.5 0.5B", "Llama 1B") for name in TECHNIQUES]
    found += [(model, 8192, name) for model in ("Qwen3 1.7B", "Gemma 3 1B") for name in FEW]
    found += [("Llama 8B", 2048, name) for name in ("LoRA fp32, no checkpointing", "full, bf16, 8-bit AdamW")]
    lengths = {"Llama 8B": (8192, 32768, 65536), "Llama 1B": (131072,)}
    return found + [(model, tokens, name) for model in lengths for tokens in lengths[model] for name in LONG]


def config_of(model: str) -> dict[str, Any]:
    """Return the whole configuration of a model of the table."""
    from transformers import AutoConfig

    model_type, keys = MODELS[model]
    config = AutoConfig.for_model(model_type, **keys, max_position_embeddings=1 << 18, use_cache=False)
    return {key: value for key, value in config.to_dict().items() if key != "architectures"}


def measure(model: str, tokens: int, name: str) -> None:
    """Run one case in this process and print what it took."""
    from ctxkit_planner.measuring import on_gpu

    began = time.monotonic()
    measured = on_gpu(config_of(model), TECHNIQUES[name], tokens)
    seconds = time.monotonic() - began
    print(json.dumps({"allocated": measured.allocated, "reserved": measured.reserved, "seconds": seconds}))


def run(model: str, tokens: int, name: str) -> dict[str, Any]:
    """Run one case in a process of its own, and return its line."""
    case = json.dumps([model, tokens, name])
    command = [sys.executable, str(Path(__file__)), "--case", case]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "PYTORCH_ALLOC_CONF": "expandable_segments:True"}
    line: dict[str, Any] = {"model": model, "tokens": tokens, "technique": name}
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=LIMIT, check=False)
    except subprocess.TimeoutExpired:
        return line | {"failed": f"longer than {LIMIT} s"}
    if done.returncode:
        return line | {"failed": done.stderr.strip().splitlines()[-1][:200]}
    return line | json.loads(done.stdout.strip().splitlines()[-1])


def predicted(model: str, tokens: int, name: str) -> float:
    """Return what the plan says that torch's allocator hands out, in bytes."""
    return memory(shape_of(config_of(model)), TECHNIQUES[name], tokens).allocated_bytes


def table(lines: list[dict[str, Any]], device: str) -> str:
    """Return all that was measured as a table."""
    rows = [
        "# Predicted memory against a GPU",
        "",
        f"Written by `python benchmarks/gpu_memory.py` on one {device}. GiB; the ratio is predicted / allocated.",
        "",
        "| model | tokens | technique | predicted | allocated | reserved | ratio |",
        "|---|---|---|---|---|---|---|",
    ]
    for line in lines:
        case = (line["model"], line["tokens"], line["technique"])
        formula = predicted(*case)
        head = f"| {case[0]} | {case[1]:,} | {case[2]} | {formula / GIB:.2f} |"
        if "failed" in line:
            rows.append(f"{head} {line['failed']} | | |")
        else:
            took, held = line["allocated"], line["reserved"]
            rows.append(f"{head} {took / GIB:.2f} | {held / GIB:.2f} | {formula / took:.3f} |")
    return "\n".join(rows) + "\n"


def main() -> int:
    """Run what is not done yet, and write the table."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="cases whose model has this in its name")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if not torch.cuda.is_available():
        print("benchmarks/gpu_memory.py needs a GPU, and torch finds none on this machine", file=sys.stderr)
        return 1
    if asked.case:
        measure(*json.loads(asked.case))
        return 0
    properties = torch.cuda.get_device_properties(0)
    lines = [json.loads(line) for line in LINES.read_text().splitlines()] if LINES.exists() else []
    done = {(line["model"], line["tokens"], line["technique"]) for line in lines}
    for case in cases():
        if case in done or asked.only not in case[0] or predicted(*case) > 0.9 * properties.total_memory:
            continue
        lines.append(run(*case))
        with LINES.open("a", encoding="utf-8") as file:
            file.write(json.dumps(lines[-1]) + "\n")
        TABLE.write_text(table(lines, properties.name), encoding="utf-8")
        print(lines[-1], flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
