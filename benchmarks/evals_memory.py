"""The most memory that perplexity takes, by length, beside that of `model(input_ids, labels=...)`.

A tiny Llama with a vocabulary of 128,000 measures one text of each length, each in a process of its own. Printed is the
peak of resident memory above that of the process before it measures, in MiB.

    python benchmarks/evals_memory.py           # into benchmarks/results/evals_memory.md
    python benchmarks/evals_memory.py --lengths 2048 4096 --plain 2048 --print
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

RESULT = Path(__file__).parent / "results" / "evals_memory.md"
VOCABULARY = 128_000
MEBIBYTE = 2**20


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lengths", type=int, nargs="+", default=[2048, 4096, 8192, 16384, 32768])
    parser.add_argument("--plain", type=int, nargs="*", default=[2048, 4096, 8192], help="lengths of the plain forward")
    parser.add_argument("--print", action="store_true", help="do not write the page of results")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    typed = parser.parse_args()
    if typed.child:
        print(json.dumps(child(typed.child[0], int(typed.child[1]))))
        return
    lines = table(memory(typed.lengths, typed.plain))
    print("\n".join(lines))
    if not typed.print:
        RESULT.write_text("\n".join([*head(), "", *lines]) + "\n")


def head() -> list[str]:
    """Return what the page says before its table."""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("torch", "transformers"))
    return [
        "# Memory of perplexity",
        "",
        "Peak of resident memory above the start of the measurement, MiB, for one text of each length: a Llama of one",
        f"layer of 32, vocabulary {VOCABULARY:,}, float32, one process each. The right ones are of `model(input_ids,",
        "labels=...)`, with the same loss. Made by `python benchmarks/evals_memory.py`.",
        "",
        f"{platform.system()} {platform.machine()}, Python {platform.python_version()}, {versions}",
    ]


def memory(lengths: list[int], plain: list[int]) -> dict[str, dict[int, dict[str, float]]]:
    """Return peak (MiB above the start) and loss of each way, by length in tokens."""
    return {
        "perplexity": {length: in_a_process("perplexity", length) for length in lengths},
        "plain": {length: in_a_process("plain", length) for length in plain},
    }


def table(found: dict[str, dict[int, dict[str, float]]]) -> list[str]:
    """Return the figures as a table; both ways must have found the same loss."""
    lines = ["| tokens | perplexity, MiB | `labels=`, MiB | ratio |", "|---|---|---|---|"]
    for length, ours in found["perplexity"].items():
        plain = found["plain"].get(length)
        if plain and abs(plain["loss"] - ours["loss"]) > 1e-4:
            raise SystemExit(f"losses differ at {length}: {ours['loss']} and {plain['loss']}")
        theirs = f"{plain['peak']:,.0f} | {plain['peak'] / ours['peak']:.1f}" if plain else "not tried | "
        lines.append(f"| {length:,} | {ours['peak']:,.0f} | {theirs} |")
    return lines


def in_a_process(way: str, length: int) -> dict[str, float]:
    """Return what a process of its own measured."""
    command = [sys.executable, __file__, "--child", way, str(length)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def child(way: str, length: int) -> dict[str, float]:
    """Measure one text in one way."""
    import resource

    import torch

    model = tiny()
    ids = torch.randint(0, VOCABULARY, (1, length), generator=torch.Generator().manual_seed(1))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with torch.no_grad():
        loss = plainly(model, ids) if way == "plain" else in_pieces(model, ids)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"peak": (after - before) * 1024 / MEBIBYTE, "loss": loss}


def tiny() -> Any:
    """Return a model whose logits are nearly all of its memory."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
        tie_word_embeddings=True, max_position_embeddings=131_072,
    )  # fmt: skip
    model: Any = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        model(torch.zeros(1, 64, dtype=torch.long))  # what the first call alone loads is no memory of the length
    return model


def in_pieces(model: Any, ids: Any) -> float:
    """Return the mean loss as the eval computes it."""
    from ctxkit_evals.likelihood import token_losses

    return float(token_losses(model, ids.tolist(), ids.shape[1] - 1).mean())


def plainly(model: Any, ids: Any) -> float:
    """Return the mean loss as transformers computes it."""
    return float(model(input_ids=ids, labels=ids).loss)


if __name__ == "__main__":
    main()
