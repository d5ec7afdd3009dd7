"""Corrections of the planner: the arithmetic by numbers computed by hand, the training with a real small model."""

from __future__ import annotations

import json
import weakref
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from ctxkit.errors import CtxkitError
from ctxkit_planner.calibration import (
    Calibration,
    Measured,
    Point,
    cache_file,
    calibrate,
    corrected,
    fitted,
    keep,
    kept,
    key_of,
    single,
    smaller,
)
from ctxkit_planner.memory import CONTEXT, DEVICE_PARTS, Memory, memory
from ctxkit_planner.setup import Adapter, Setup
from ctxkit_planner.shape import shape_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

CONFIG = {"model_type": "llama", "hidden_size": 64, "intermediate_size": 256, "num_attention_heads": 4}
CONFIG |= {"num_key_value_heads": 2, "num_hidden_layers": 12, "vocab_size": 256}


def test_two_lengths_give_factor_and_constant() -> None:
    """100 + 1.5 * 40 + 7 and 100 + 1.5 * 200 + 7 were measured: the factor is 1.5, the constant 7."""
    points = [Point(1, 100, 40, Measured(167, 180)), Point(5, 100, 200, Measured(407, 488.4))]
    found = fitted(points)
    assert (found.factor, found.constant) == (pytest.approx(1.5), pytest.approx(7))
    assert found.reserve == pytest.approx(0.2)


def test_one_length_gives_no_factor() -> None:
    """Points of equal growth say nothing about it."""
    with pytest.raises(ValueError, match="two lengths"):
        fitted([Point(1, 100, 40, Measured(167, 180))] * 2)


def test_corrections_touch_what_grows_and_the_margin() -> None:
    """Activations and logits times the factor; constant, reserve and context stand for what was assumed."""
    needed = Memory(dict.fromkeys(DEVICE_PARTS, 10.0), {"runtime": 5.0})
    found = corrected(needed, Calibration(2.0, 3.0, 0.1))
    assert found.device["activations"] == found.device["logits"] == 20
    assert found.device["weights"] == found.device["optimizer"] == 10
    assert found.device["fragmentation"] == pytest.approx(3 + 0.1 * (5 * 10 + 2 * 20 + 3) + CONTEXT)
    assert found.host == needed.host
    assert corrected(needed, None) is needed


def test_what_is_measured_is_met() -> None:
    """A GPU that takes 1.2 times the activations and a mebibyte: the corrected prediction is what was measured."""
    setup = Setup(adapter=Adapter(r=4), sharding="zero3", shards=8, weights="nf4", rows=2)

    def measure(config: Mapping[str, Any], setup: Setup, tokens: int) -> Measured:
        device = memory(shape_of(config), setup, tokens).device
        growing = device["activations"] + device["logits"]
        return Measured(sum(device.values()) - device["fragmentation"] + 0.2 * growing + 2**20, 2**40)

    found = calibrate(CONFIG, setup, (512, 4096), 2**40, measure)
    assert (found.factor, found.constant) == (pytest.approx(1.2), pytest.approx(2**20, rel=1e-3))
    alone, shape = single(setup), shape_of(CONFIG)
    seen = measure(CONFIG, alone, 2048).allocated
    again = corrected(memory(shape, alone, 2048), found)
    margin = found.reserve * seen + CONTEXT
    assert again.peak_bytes - margin == pytest.approx(seen)


def test_a_model_that_would_not_fit_has_fewer_layers() -> None:
    """The largest of 8, 4 and 2 layers that takes four fifths of the GPU; where none does, one clear error."""
    setup, shape = Setup(), shape_of(CONFIG)
    assert smaller(CONFIG, setup, 4096, 2**40)["num_hidden_layers"] == 12
    four, eight = (memory(replace(shape, layers=layers), setup, 4096).peak_bytes for layers in (4, 8))
    assert smaller(CONFIG, setup, 4096, (four + eight) / 2 / 0.8)["num_hidden_layers"] == 4
    with pytest.raises(CtxkitError, match="two layers would not fit"):
        smaller(CONFIG, setup, 4096, 1000)


def test_corrections_are_kept_by_all_that_they_depend_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another GPU, architecture, kernel or kind of checkpointing finds nothing; a broken file is no fault."""
    monkeypatch.setenv("CTXKIT_CACHE", str(tmp_path / "cache"))
    key = key_of("H100", CONFIG, Setup())
    assert kept(key) is None
    keep(key, Calibration(1.1, 2.0, 0.3))
    keep("other", Calibration(1.0, 0.0, 0.0))
    assert kept(key) == Calibration(1.1, 2.0, 0.3)
    others = [key_of("A100", CONFIG, Setup()), key_of("H100", CONFIG, Setup(attention="flash"))]
    others += [key_of("H100", CONFIG, Setup(checkpointing="none")), key_of("H100", {"model_type": "qwen2"}, Setup())]
    assert [kept(other) for other in others] == [None] * 4
    for damaged in ({"factor": "x", "constant": 0, "reserve": 0}, {"factor": 1.0}, []):
        cache_file().write_text(json.dumps({key: damaged}), encoding="utf-8")
        assert kept(key) is None
    cache_file().write_text("{", encoding="utf-8")
    assert kept(key) is None


@pytest.mark.torch
def test_without_a_gpu_one_line_says_so() -> None:
    """No traceback and no training: the command needs a GPU."""
    import torch

    from ctxkit_planner.measuring import calibrate_here

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(CtxkitError, match="torch finds none on this machine") as caught:
        calibrate_here(CONFIG, Setup(), 4096)
    assert "\n" not in str(caught.value)


def counting() -> Any:
    """Return a context that counts the bytes of all storages that operations make, while they live."""
    from torch import Tensor
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_map_only

    class Counting(TorchDispatchMode):
        live = peak = 0.0

        def __init__(self) -> None:
            super().__init__()
            self.seen: set[int] = set()

        def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            made = operation(*args, **(kwargs or {}))
            tree_map_only(Tensor, self.count, made)
            return made

        def count(self, tensor: Tensor) -> None:
            storage = tensor.untyped_storage()
            key, size = storage._cdata, storage.nbytes()
            if key not in self.seen:
                self.seen.add(key)
                self.live += size
                self.peak = max(self.peak, self.live)
                weakref.finalize(storage, self.free, key, size)

        def free(self, key: int, size: int) -> None:
            self.seen.discard(key)
            self.live -= size

    return Counting()


@pytest.mark.torch
@pytest.mark.parametrize(
    "setup", [Setup(weights="float32", compute_bytes=4), Setup(adapter=Adapter(r=4))], ids=["full", "lora"]
)
def test_real_steps_are_near_the_prediction(setup: Setup) -> None:
    """Two steps of SFTTrainer with a real small model on the CPU, every tensor counted, and corrected by the fit."""
    import gc

    def measure(config: Mapping[str, Any], setup: Setup, tokens: int) -> Measured:
        from ctxkit_planner.measuring import train

        gc.collect()
        with counting() as counted:
            train(config, setup, tokens, device="cpu")
        return Measured(counted.peak, counted.peak)

    config = CONFIG | {"num_hidden_layers": 2}
    found = calibrate(config, setup, (512, 1024), 2**40, measure)
    seen = measure(config, single(setup), 768).allocated
    again = corrected(memory(shape_of(config), single(setup), 768), found)
    assert again.peak_bytes - CONTEXT == pytest.approx(seen, rel=0.05)
