"""GPUs by name: memory, arithmetic and links, from their makers' data sheets; and what training reaches of it."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, replace

from ctxkit.errors import CtxkitError, ExitCode

MIB = 1 << 20
GIGA = 10**9
TERA = 10**12


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """One GPU.

    `memory_bytes` is what its driver reports, a little less than the name says. `peak` is dense bf16 arithmetic with
    sums in float32, in operations a second; `memory_rate`, `link` (to the other GPUs of the machine) and `host_link`
    are bytes a second, the links in one direction.
    """

    name: str
    memory_bytes: int
    peak: float
    memory_rate: float
    link: float
    host_link: float
    linear: float
    """Share of the peak that the layers' matrices reach in training, what lies between them included: assumed."""
    attention: float
    """Share of the peak that flash attention reaches, forward and backward: assumed."""
    words: tuple[str, ...] = ()
    """What the driver calls it: each of these stands in its name."""


def _gpu(name: str, mib: int, tflops: float, rates: tuple[float, float, float], reached: tuple[float, float]) -> Gpu:
    """Return a GPU from MiB, TFLOP/s, and GB/s of memory, link and host link."""
    memory_rate, link, host_link = (rate * GIGA for rate in rates)
    return Gpu(
        name=name,
        memory_bytes=mib * MIB,
        peak=tflops * TERA,
        memory_rate=memory_rate,
        link=link,
        host_link=host_link,
        linear=reached[0],
        attention=reached[1],
        words=tuple(name.removeprefix("rtx-").split("-")),
    )


# Shares: those of A100 and H100 follow from published throughputs (docs/plan.md compares); the others are those of the
# nearest of the two.
_AMPERE, _HOPPER, _ADA, _OTHER = (0.47, 0.58), (0.36, 0.36), (0.45, 0.45), (0.30, 0.30)

GPUS = {
    gpu.name: gpu
    for gpu in (
        _gpu("t4", 15360, 65, (320, 15.75, 15.75), (0.35, 0.15)),
        _gpu("a10g", 23028, 70, (600, 31.5, 31.5), _AMPERE),
        _gpu("a100-40gb", 40960, 312, (1555, 300, 31.5), _AMPERE),
        _gpu("a100-80gb", 81920, 312, (2039, 300, 31.5), _AMPERE),
        _gpu("a6000", 49140, 154.8, (768, 31.5, 31.5), _AMPERE),
        _gpu("rtx-3090", 24576, 71, (936, 31.5, 31.5), _AMPERE),
        _gpu("l4", 23034, 121, (300, 31.5, 31.5), _ADA),
        _gpu("l40s", 46068, 362, (864, 31.5, 31.5), _ADA),
        _gpu("rtx-4090", 24564, 165.2, (1008, 31.5, 31.5), _ADA),
        _gpu("h100-80gb", 81559, 989.4, (3350, 450, 63), _HOPPER),
        _gpu("h100-pcie", 81559, 756, (2000, 63, 63), _HOPPER),
        _gpu("gh200", 97871, 989.4, (4000, 450, 450), _HOPPER),
        _gpu("h200-141gb", 143771, 989.4, (4800, 450, 63), _HOPPER),
        _gpu("rtx-5090", 32607, 209.5, (1792, 63, 63), _ADA),
        _gpu("b200", 183359, 2250, (8000, 900, 63), _OTHER),
        _gpu("mi300x", 196592, 1307.4, (5300, 448, 63), _OTHER),
        _gpu("mi325x", 262128, 1307.4, (6000, 448, 63), _OTHER),
    )
}
"""By the name that `--gpu` takes. Memory: as `nvidia-smi` or `rocm-smi` shows it. Arithmetic and rates: data sheets of
NVIDIA and AMD, without sparsity; the GeForce figures are those of tensor cores that sum in float32."""

WITHOUT_BFLOAT16 = ("t4",)
"""Those whose 16-bit type is float16 alone; their arithmetic above is in that."""
_ALIASES = {"a100": "a100-80gb", "h100": "h100-80gb", "h200": "h200-141gb", "h100-sxm": "h100-80gb"}


def gpu_named(name: str) -> Gpu:
    """Return a GPU by the name that a person types.

    Raises:
        CtxkitError: there is none of that name; says which are near, and all.
    """
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    known = GPUS | {alias: GPUS[real] for alias, real in _ALIASES.items()}
    squeezed = {key.replace("-", ""): gpu for key, gpu in known.items()}
    found = known.get(plain) or squeezed.get(plain.replace("-", ""))
    if found is not None:
        return found
    near = difflib.get_close_matches(plain, known, n=3) or [key for key in GPUS if plain and plain in key]
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    message = f"--gpu {name or repr(name)}: no such GPU is known" if name else "--gpu needs the name of a GPU"
    raise CtxkitError(message, f"{hint}known: {', '.join(GPUS)}", exit_code=ExitCode.RECIPE)


def gpu_found(driver_name: str | None, memory_bytes: int | None) -> Gpu | None:
    """Return the GPU that a driver names, with the memory that it reports; None where neither says which it is."""
    said = re.sub(r"[^a-z0-9]+", " ", (driver_name or "").lower())
    fitting = [gpu for gpu in GPUS.values() if all(re.search(rf"\b{word}\b", said) for word in gpu.words)]
    best = max(fitting, key=lambda gpu: len(gpu.words), default=None)
    if best is not None:
        return replace(best, memory_bytes=memory_bytes or best.memory_bytes)
    if memory_bytes is None:
        return None
    # Of an unknown one the memory counts; its rates only compare one change with another.
    return replace(GPUS["h100-80gb"], name=driver_name or "this GPU", memory_bytes=memory_bytes)
