"""Write the frequencies that the reference implementations give for public model shapes: what the tests compare with.

    git clone https://github.com/jquesnelle/yarn
    git clone https://github.com/microsoft/LongRoPE
    python benchmarks/rope_reference.py yarn LongRoPE tests/unit/plugins/rope_reference.json

Their classes are called as they are, and cos and sin are read as a model would use them.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

SHAPES = {
    "Llama-2-7B": {"dim": 128, "rope_theta": 1e4, "original": 4_096, "target": 65_536},
    "Llama-3.1-8B": {"dim": 128, "rope_theta": 5e5, "original": 8_192, "target": 131_072},
    "Qwen2.5-7B": {"dim": 128, "rope_theta": 1e6, "original": 32_768, "target": 131_072},
    "Mistral-7B-v0.1": {"dim": 128, "rope_theta": 1e4, "original": 8_192, "target": 65_536},
    "Phi-3-mini-4k": {"dim": 96, "rope_theta": 1e4, "original": 4_096, "target": 131_072},
}
"""Rotary dimensions of a head, theta, and the windows in tokens; Mistral's as the YaRN authors extended it."""


def main(yarn: Path, longrope: Path, output: Path) -> None:
    """Call the classes of both clones for every shape, and write the numbers with the commits they came from."""
    cases = [
        {"shape": name, **shape, **case}
        for name, shape in SHAPES.items()
        for case in (*_of_yarn(yarn, **shape), _of_longrope(longrope, **shape))
    ]
    commits = {"jquesnelle/yarn": _commit(yarn), "microsoft/LongRoPE": _commit(longrope)}
    lines = ",\n".join(json.dumps(case) for case in cases)
    output.write_text(f'{{"commits": {json.dumps(commits)},\n"cases": [\n{lines}\n]}}\n', encoding="utf-8")


def _of_yarn(clone: Path, dim: int, rope_theta: float, original: int, target: int) -> Iterator[dict[str, Any]]:
    factor = target / original
    common = {"max_position_embeddings": original, "base": rope_theta}
    for kind, name, fields in (
        ("linear", "LlamaLinearScaledRotaryEmbedding", {"scale": factor}),
        ("ntk", "LlamaNTKScaledRotaryEmbedding", {"alpha": factor}),
        ("dynamic", "LlamaDynamicScaledRotaryEmbedding", {"ntk": factor}),
        ("yarn", "LlamaYaRNScaledRotaryEmbedding", {"scale": factor, "original_max_position_embeddings": original}),
    ):
        module = getattr(_loaded(clone / "scaled_rope" / f"{name}.py"), name)(dim, **common, **fields)
        cos, sin = module(torch.zeros(1), seq_len=target if kind == "dynamic" else original)
        yield {"kind": kind, **_read(cos[0, 0], sin[0, 0])}


def _of_longrope(clone: Path, dim: int, rope_theta: float, original: int, target: int) -> dict[str, Any]:
    pairs, factor = dim // 2, target / original
    factors = [round(factor ** (pair / (pairs - 1)) * 1.25, 3) for pair in range(pairs)]
    module = _loaded(clone / "rope" / "longrope.py").LongRoPEScaledRotaryEmbedding(
        dim, factors, factor, target, original, rope_theta
    )
    cos, sin = module.forward(torch.zeros(1, 2, dim), torch.tensor([[0, 1]]))
    return {"kind": "longrope", "long_factor": factors, **_read(cos[0], sin[0])}


def _read(cos: torch.Tensor, sin: torch.Tensor) -> dict[str, Any]:
    """Return radians per token and the factor on cos and sin, from the tables by position and dimension."""
    half = cos.shape[-1] // 2
    angles = torch.atan2(sin[1].double(), cos[1].double())[:half]
    return {"inv_freq": [float(f"{angle:.9g}") for angle in angles.tolist()], "attention": float(cos[0, 0])}


def _loaded(file: Path) -> Any:
    """Return a module from its file alone: their packages import what is not installed here."""
    spec = importlib.util.spec_from_file_location(file.stem, file)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{file} is no Python module")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _commit(clone: Path) -> str:
    command = ["git", "-C", str(clone), "rev-parse", "HEAD"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:]))
