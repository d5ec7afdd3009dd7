"""The benchmarks on GPUs, as far as a machine without one can try them: what is typed, and what is computed of it."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
pytestmark = [pytest.mark.torch]


@pytest.fixture
def throughput(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module of the benchmark on one GPU."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import gpu_throughput  # type: ignore[import-not-found]

    return gpu_throughput


def bench(module: Any, folder: Path, minutes: float = 1) -> Any:
    """Return the cases of a smoke test, of which none is measured."""
    return module.Bench(argparse.Namespace(smoke=True, work=folder, minutes=minutes))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gpu_throughput", "gpu_parallel"])
def test_refused_without_a_gpu(name: str, tmp_path: Path) -> None:
    """One line says that a GPU is needed."""
    line = [sys.executable, str(ROOT / f"benchmarks/{name}.py"), "--work", str(tmp_path)]
    done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 2
    assert "GPU" in done.stderr.splitlines()[-1]


def test_operations_of_llama(throughput: Any) -> None:
    """4 for each weight of a linear layer of Llama-3-8B, which has 7,504,924,672 of them, and 6 x 32 x 4096 a token."""
    linear = 8_030_261_248 - 128_256 * 4096 - 65 * 4096  # less the embedding and the norms
    assert throughput.operations(throughput.LLAMA, 0) == 4.0 * linear
    assert throughput.operations(throughput.LLAMA, 1000) - 4.0 * linear == 6.0 * 32 * 4096 * 1000


@pytest.mark.parametrize("limit", [64, 100, 170, 255, 256])
def test_window_is_found(throughput: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    """Doubling and halving ends less than a sixteenth, or 64 tokens, below what fits; each case is asked once."""
    made, asked = bench(throughput, tmp_path), []
    monkeypatch.setattr(throughput, "FINE", 1)
    monkeypatch.setattr(made, "window", (64, 1024))

    def case(way: str, tokens: int, *, largest: bool) -> dict[str, Any]:
        asked.append(tokens)
        return {} if tokens <= limit else {"failed": "out of memory"}

    monkeypatch.setattr(made, "case", case)
    found = made.largest("ctxkit")
    assert found <= limit < 2 * found
    assert len(asked) == len(set(asked))


def test_what_is_measured_is_not_measured_again(
    throughput: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A case is written down when it ends; one that did not fit into the rest of a call is left to the next."""
    monkeypatch.setattr(throughput.Inputs, "make", lambda _: None)
    first = bench(throughput, tmp_path)
    monkeypatch.setattr(first, "_trl", lambda *_, **__: {"tokens_per_second": 5})
    assert first.case("trl", 64, largest=False) == {"tokens_per_second": 5}
    again = bench(throughput, tmp_path)
    assert again.case("trl", 64, largest=False) == {"tokens_per_second": 5}
    again.ends -= 30
    monkeypatch.setattr(again, "_trl", lambda *_, **__: {"failed": "longer than 30 s"})
    with pytest.raises(TimeoutError):
        again.case("trl", 128, largest=False)
    again.ends -= 60
    with pytest.raises(TimeoutError):
        again.case("trl", 128, largest=False)
    assert list(json.loads(again.state.read_text())) == ["trl-64"]


def test_page(throughput: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ratio and the MFU follow from tokens a second; what failed says why."""
    made = bench(throughput, tmp_path)
    rates = {"trl": 100.0, "ctxkit": 130.0}

    def case(way: str, tokens: int, *, largest: bool) -> dict[str, Any]:
        if tokens > (64 if way == "trl" else 128):
            return {"failed": "out of memory"}
        return {"tokens_per_second": rates[way], "peak_bytes": 2**30}

    monkeypatch.setattr(made, "case", case)
    need = throughput.operations(throughput.TINY, 64)
    text = throughput.page(made, need * 260, "a GPU")
    assert "| 64 | 100 | 130 | 1.30 | 38.5% | 50.0% | 1.0 | 1.0 |" in text
    assert "| 128 | out of memory | 130 | - | - |" in text
    assert "Largest window: TRL 64 tokens, ctxkit 128, 2.0 times." in text
