"""Eight GPUs: every parallel layout on the same rows: its losses against those of DDP, tokens/s, and peak memory.

A model of Llama-3-8B's shape with random weights and LoRA, bf16, eight rows a step. Under `cp` and `sp` all processes
share a row, so that a step takes eight of them in turn. Each layout is one `ctxkit launch`, written down when it ends;
the next call goes on with what is missing.

    python benchmarks/gpu_parallel.py --work /scratch/bench --tokens 32768    # again, until all is measured
    python benchmarks/gpu_parallel.py --work /tmp/bench --smoke               # a tiny model, two processes on the CPU

Not run on a GPU yet. What two processes over gloo compute is tested in tests/integration/test_parallel.py.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from gpu_inputs import LLAMA, TINY, Inputs, recipe, run_recipe

RESULTS = Path(__file__).parent / "results" / "gpu_parallel.md"
STEPS = 6
ZERO3: dict[str, Any] = {"deepspeed": "zero3"}
LAYOUTS: dict[str, dict[str, Any]] = {
    "DDP": {},
    "ZeRO-2": {"deepspeed": "zero2"},
    "ZeRO-3": ZERO3,
    "FSDP2": {"fsdp": True},
    "FSDP2, context parallel 8": {"fsdp": True, "parallelism_config": {"cp_size": 8}},
    "ZeRO-3, sequence parallel 8": {**ZERO3, "parallelism_config": {"sp_size": 8}},
}


def measure(inputs: Inputs, name: str, tokens: int, processes: int, folder: Path, limit: float) -> dict[str, Any]:
    """Return what a layout does with the rows that every layout gets."""
    layout = LAYOUTS[name]
    train: dict[str, Any] = {} if torch.cuda.is_available() else {"use_cpu": True}
    if "parallelism_config" in layout:
        train["gradient_accumulation_steps"] = processes
    sections = {"train": train, "launch": {"num_processes": processes, **layout}}
    made = recipe(inputs, tokens, STEPS, processes, sections)
    line = [sys.executable, "-m", "ctxkit", "launch", "{}", "--num-processes", str(processes)]
    return run_recipe(made, folder, line, limit)


def page(known: dict[str, Any], tokens: int, processes: int, device: str) -> str:
    """Return the page of results."""
    lines = [
        f"# {processes} GPUs: every layout",
        "",
        f"`python benchmarks/gpu_parallel.py`, {processes} x {device}.",
        "",
    ]
    lines += [f"Rows of {tokens:,} tokens, {processes} a step, {STEPS} steps.", ""]
    lines += [
        "| layout | tokens/s of all | GiB of the first | largest difference of a loss from DDP |",
        "|---|---|---|---|",
    ]
    wanted = known["DDP"].get("losses", [])
    for name, found in known.items():
        if "failed" in found:
            lines.append(f"| {name} | {found['failed']} | | |")
            continue
        most = max((abs(one - other) for one, other in zip(found["losses"], wanted, strict=False)), default=0.0)
        gib = found["peak_bytes"] / 2**30
        lines.append(f"| {name} | {found['tokens_per_second']:,.0f} | {gib:.1f} | {most:.1e} |")
    return "\n".join([*lines, ""])


def main() -> int:
    """Measure, as far as the time goes; return 75 where there is more to do."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="a folder with 40 GB of room, kept between calls")
    parser.add_argument("--tokens", type=int, default=32_768, help="of a row")
    parser.add_argument("--minutes", type=float, default=9, help="after which no layout is begun")
    parser.add_argument("--smoke", action="store_true", help="DDP of a tiny model on the CPU; prints the page")
    typed = parser.parse_args()
    processes = 2 if typed.smoke else torch.cuda.device_count()
    if processes < 2:
        print("gpu_parallel.py needs several GPUs; --smoke tries it without one", file=sys.stderr)
        return 2
    tokens = 64 if typed.smoke else typed.tokens
    inputs = Inputs(typed.work / ("tiny" if typed.smoke else "llama"), TINY if typed.smoke else LLAMA)
    inputs.make()
    state = typed.work / f"gpu_parallel-{tokens}-{processes}.json"
    known = json.loads(state.read_text(encoding="utf-8")) if state.exists() else {}
    ends = time.monotonic() + typed.minutes * 60
    for name in ["DDP"] if typed.smoke else LAYOUTS:
        if name in known:
            continue
        if time.monotonic() >= ends:
            print("there is more to measure: type the same again")
            return 75
        folder = typed.work / "runs" / f"{name}-{tokens}".replace(" ", "").replace(",", "-")
        known[name] = measure(inputs, name, tokens, processes, folder, typed.minutes * 60)
        state.write_text(json.dumps(known, indent=1), encoding="utf-8")
    text = page(known, tokens, processes, "the CPU" if typed.smoke else torch.cuda.get_device_name())
    if not typed.smoke:
        RESULTS.write_text(text, encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
