"""What tiles do for the MLP: peak memory and time of one forward and backward pass, against the MLP in one piece.

The same MLP on the same hidden states in one process without a GPU: what is compared are bytes of resident memory and
seconds of the processor. `liger` and `deepspeed` are their tiled MLPs, where they are installed and run. The gradients
of all ways are compared. The last part is a whole training step of Llama-3-8B with LoRA on fake tensors, by torch's own
MemTracker: nothing is computed there. Needs Linux, which says what the peak was.

    python benchmarks/tiled_mlp.py            # writes benchmarks/results/tiled_mlp.md, about a minute
    python benchmarks/tiled_mlp.py --smoke    # a tiny MLP, in seconds, prints
"""

from __future__ import annotations

import argparse
import ctypes
import importlib.util
import platform
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import torch
from transformers.models.llama.modeling_llama import LlamaConfig, LlamaMLP

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

RESULTS = Path(__file__).parent / "results" / "tiled_mlp.md"
MIB = 2**20
M_MMAP_THRESHOLD = -3
"""Of glibc's mallopt."""
SIZES = {"hidden_size": 512, "intermediate_size": 1792}
TOKENS = 16_384
TILES = (4096, 1024)
WINDOWS = (32_768,)
"""Tokens of the rows of the training step."""
LLAMA = {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
         "num_key_value_heads": 8, "vocab_size": 128_256}  # fmt: skip


def _plain(mlp: Any, hidden: Any, tile: int) -> Any:
    del tile
    return mlp(hidden)


def _ours(mlp: Any, hidden: Any, tile: int) -> Any:
    from ctxkit_longmem.tiled_mlp import over_tiles

    return over_tiles(mlp, hidden, -(-hidden.shape[1] // tile))


def _liger(mlp: Any, hidden: Any, tile: int) -> Any:
    from liger_kernel.ops.tiled_mlp import apply_tiled_mlp

    return apply_tiled_mlp(lambda module, part: module(part), mlp, hidden, -(-hidden.shape[1] // tile), None)


def _deepspeed(mlp: Any, hidden: Any, tile: int) -> Any:
    from deepspeed.runtime.sequence_parallel.ulysses_sp import TiledMLP

    shards = -(-hidden.shape[1] // tile)
    return TiledMLP.apply(lambda module, part: module(part), mlp, hidden, shards, list(mlp.parameters()))


WAYS: dict[str, Callable[[Any, Any, int], Any]] = {
    "one piece": _plain,
    "ctxkit": _ours,
    "liger": _liger,
    "deepspeed": _deepspeed,
}


def measure(way: str, tile: int, tokens: int, sizes: dict[str, int]) -> dict[str, Any]:
    """Return peak bytes above what is there before, processor seconds, and the squares of the gradients, summed."""
    # Every tensor of some size in pages of its own, which go back to the system when it does.
    ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 1 << 16)
    ctypes.CDLL(None).malloc_trim(0)
    torch.manual_seed(0)
    mlp = LlamaMLP(LlamaConfig(**sizes))
    hidden = torch.randn(1, tokens, sizes["hidden_size"], requires_grad=True)
    before = resident(reset=True)
    began = time.process_time()
    WAYS[way](mlp, hidden, tile).square().mean().backward()
    seconds = time.process_time() - began
    gradients = [hidden.grad, *(one.grad for one in mlp.parameters())]
    squares = [float(one.double().square().sum()) for one in gradients if one is not None]
    return {"peak": resident(reset=False) - before, "seconds": seconds, "gradients": squares}


def resident(*, reset: bool) -> int:
    """Return the most resident memory of this process since the last reset, in bytes; begin anew where asked."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024


def step_bytes(tokens: int, tile: int | None) -> float:
    """Return the peak of a training step of Llama-3-8B with LoRA in bytes, its MLP in tiles or not."""
    import memory_tracking

    from ctxkit_longmem.tiled_mlp import tile_mlps
    from ctxkit_planner.setup import Adapter, Setup

    build = memory_tracking.build

    def tiled(case: Any, layers: int | None = None) -> Any:
        model = build(case, layers)
        if tile:
            tile_mlps(model.get_base_model(), tile)
        return model

    adapter = Adapter(r=16, target_modules="all-linear", dtype_bytes=2)
    case = memory_tracking.Case("Llama-3-8B", tokens, Setup(adapter=adapter), keys=LLAMA)
    with mock.patch.object(memory_tracking, "build", tiled):
        return float(memory_tracking.tracked(case))


def cases(tiles: tuple[int, ...]) -> Iterator[tuple[str, int]]:
    """Yield each way that is installed, with its tiles in tokens."""
    yield "one piece", 0
    for tile in tiles:
        yield "ctxkit", tile
    for way, package in (("liger", "liger_kernel"), ("deepspeed", "deepspeed")):
        if importlib.util.find_spec(package) is not None:
            yield way, tiles[-1]


def table(tokens: int, tiles: tuple[int, ...], sizes: dict[str, int]) -> list[str]:
    """Return the lines of the table of the MLP alone."""
    lines = ["| way | tile | peak MiB | seconds | gradients differ by |", "|---|---|---|---|---|"]
    first: list[float] | None = None
    for way, tile in cases(tiles):
        try:
            found = measure(way, tile, tokens, sizes)
        except ImportError as error:
            lines.append(f"| {way} | {tile:,} | does not run here: {error} | | |")
            continue
        first = first or found["gradients"]
        pairs = zip(found["gradients"], first, strict=True)
        most = max(abs(one - other) / other for one, other in pairs)
        shown = f"{tile:,}" if tile else "-"
        print(f"{way} {shown}: {found['peak'] / MIB:,.0f} MiB", flush=True)
        lines.append(f"| {way} | {shown} | {found['peak'] / MIB:,.0f} | {found['seconds']:.1f} | {most:.0e} |")
    return lines


def step_table(windows: tuple[int, ...], tile: int) -> list[str]:
    """Return the lines of the table of a whole training step."""
    lines = ["| tokens of a row | one piece, GiB | tiles, GiB | saved |", "|---|---|---|---|"]
    for tokens in windows:
        whole, tiled = (step_bytes(tokens, one) / 2**30 for one in (None, tile))
        lines.append(f"| {tokens:,} | {whole:.1f} | {tiled:.1f} | {1 - tiled / whole:.0%} |")
    return lines


def main() -> None:
    """Measure, and write the page or print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true")
    typed = parser.parse_args()
    measure("one piece", 0, 64, {"hidden_size": 32, "intermediate_size": 96})  # what libraries allocate once
    if typed.smoke:
        print("\n".join(table(256, (64,), {"hidden_size": 32, "intermediate_size": 96})))
        return
    where = f"{platform.machine()}, torch {torch.__version__}, {torch.get_num_threads()} threads, no GPU"
    alone = f"One forward and backward pass of a Llama MLP (512 to 1,792 wide, float32) over {TOKENS:,} tokens."
    step = "One training step of Llama-3-8B, LoRA (r 16, all linear layers), bf16, a checkpoint a layer, TRL's loss."
    text = [
        "# The MLP in tiles",
        "",
        f"`python benchmarks/tiled_mlp.py`; {where}.",
        "",
        alone,
        "Peak: resident memory above what weights and hidden states take.",
        "",
        *table(TOKENS, TILES, SIZES),
        "",
        step,
        "Tiles of 4,096 tokens. The peak of one device, by torch's MemTracker on fake tensors.",
        "",
        *step_table(WINDOWS, 4096),
        "",
    ]
    RESULTS.write_text("\n".join(text), encoding="utf-8")
    print("\n".join(text))


if __name__ == "__main__":
    main()
