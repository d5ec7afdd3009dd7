"""The planner's memory against torch's own tracker on fake tensors, and against figures computed by hand."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest

from ctxkit_planner.families import FAMILIES
from ctxkit_planner.layer import Layer
from ctxkit_planner.memory import Memory, largest_window, memory, pinned
from ctxkit_planner.parameters import parameters
from ctxkit_planner.setup import Adapter, Setup
from ctxkit_planner.shape import Shape, shape_of
from ctxkit_planner.sizes import CUDA, TRACKED, Backend, Sizes
from ctxkit_planner.states import OPTIMIZER_BYTES, States, optimizer_kind
from ctxkit_planner.tape import Tape

GIB = 2**30
LLAMA = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
}
SHAPE = shape_of(LLAMA)
LORA = Adapter(r=16)
SMALL = {"hidden_size": 256, "intermediate_size": 1024, "num_attention_heads": 8, "num_key_value_heads": 2}
SMALL |= {"num_hidden_layers": 2, "vocab_size": 2048, "pad_token_id": 0}

TRACKABLE = {
    "full": Setup(),
    "float32 weights": Setup(weights="float32"),
    "lora": Setup(adapter=LORA),
    "lora bf16": Setup(adapter=replace(LORA, dtype_bytes=2)),
    "kept": Setup(checkpointing="none"),
    "lora kept": Setup(adapter=LORA, checkpointing="none"),
    "logits": Setup(loss="full"),
}


TRACKED_CASES = [("llama", name) for name in TRACKABLE]
TRACKED_CASES += [("qwen3", "lora bf16"), ("phi3", "full"), ("gemma3_text", "lora"), ("starcoder2", "lora")]


@pytest.mark.torch
@pytest.mark.parametrize(("model_type", "name"), TRACKED_CASES)
def test_the_peak_is_within_5_percent_of_torchs_tracker(model_type: str, name: str) -> None:
    """A whole step of transformers, peft and TRL's fused head on fake tensors peaks where the formula says."""
    from benchmarks.memory_tracking import Case, tracked_of

    case = Case("small", 8192, TRACKABLE[name], model_type, SMALL)
    shape = shape_of(case.config().to_dict())
    formula = memory(shape, case.setup, case.tokens, TRACKED).allocated_bytes
    assert formula == pytest.approx(tracked_of(case, 2), rel=0.05)


@pytest.mark.torch
def test_a_rank_of_fsdp_is_within_5_percent_of_torchs_tracker() -> None:
    """One of 8 fake ranks of FSDP2 peaks where the formula says: sharded states, gathered layers, whole ends."""
    from benchmarks.memory_tracking import Case, tracked_rank

    setup = Setup(weights="float32", sharding="fsdp", shards=8, loss="full")
    case = Case("small", 8192, setup, "llama", SMALL)
    formula = memory(shape_of(case.config().to_dict()), setup, case.tokens, TRACKED).allocated_bytes
    assert formula == pytest.approx(tracked_rank(case), rel=0.05)


def peak(setup: Setup, tokens: int = 32768, shape: Shape = SHAPE) -> float:
    """Return what torch's allocator would hand out."""
    return memory(shape, setup, tokens).allocated_bytes


def test_it_takes_milliseconds() -> None:
    """A peak and a largest window are computed while nobody waits."""
    began = time.perf_counter()
    largest_window(SHAPE, Setup(adapter=LORA), 80 * GIB, 512 * GIB)
    assert time.perf_counter() - began < 0.5


def test_states_of_a_full_fine_tune_are_those_of_the_papers() -> None:
    """ZeRO (arXiv 1910.02054, figure 1): 16 bytes a parameter, 2 + 14/n and so on for its stages."""
    total = parameters(SHAPE).base
    plain = States(SHAPE, Setup(sharding="zero1", shards=1))
    assert plain.weights + plain.gradients + plain.optimizer == pytest.approx(16 * total)
    one, two, three = (States(SHAPE, Setup(sharding=f"zero{stage}", shards=8)) for stage in (1, 2, 3))
    assert one.weights + one.gradients + one.optimizer == pytest.approx((4 + 12 / 8) * total)
    assert two.weights + two.gradients + two.optimizer == pytest.approx((2 + 14 / 8) * total)
    assert three.weights + three.gradients + three.optimizer == pytest.approx(16 / 8 * total)


def test_nf4_takes_half_a_byte_and_its_constants() -> None:
    """QLoRA (arXiv 2305.14314, section 3): 0.5 bits of constants a parameter, 0.127 with double quantization."""
    plain, double = (States(SHAPE, Setup(weights=kind)).weights for kind in ("nf4", "nf4_double"))
    quantized = parameters(SHAPE).quantizable
    rest = 2 * (parameters(SHAPE).base - quantized)
    assert (plain - rest) * 8 / quantized == pytest.approx(4.5)
    assert (double - rest) * 8 / quantized == pytest.approx(4.127, abs=0.001)


@pytest.mark.parametrize(
    ("name", "bytes_"),
    [
        ("adamw_torch_fused", 8),
        ("adamw_bnb_8bit", 2.03125),
        ("lion_32bit", 4),
        ("sgd", 0),
        ("paged_adamw_8bit", 2.03125),
    ],
)
def test_optimizers_have_their_states(name: str, bytes_: float) -> None:
    """Two float32 moments for Adam, one for Lion, a byte each and a constant in 256 with 8 bits (arXiv 2110.02861)."""
    assert OPTIMIZER_BYTES[optimizer_kind(name)] == bytes_


CHANGES = {
    "checkpointing": ({"checkpointing": "none"}, {}),
    "chunked loss": ({"loss": "full"}, {}),
    "liger's loss": ({"loss": "full"}, {"loss": "liger"}),
    "tiled feed-forward": ({}, {"mlp_tile": 2048}),
    "activation offload": ({}, {"activation_offload": True}),
    "liger's layers": ({}, {"liger_layers": True}),
    "no dense mask": ({"dense_mask": True}, {}),
    "no eager attention": ({"attention": "eager"}, {}),
    "every layer, not every fourth": ({"every_n_layers": 4}, {}),
    "full, not selective checkpointing": ({"checkpointing": "selective"}, {}),
    "8-bit optimizer": ({"adapter": None}, {"adapter": None, "optimizer": "adamw_bnb_8bit"}),
    "NF4": ({}, {"weights": "nf4"}),
    "ZeRO-2": ({"adapter": None}, {"adapter": None, "sharding": "zero2", "shards": 64}),
    "ZeRO-3": ({"adapter": None}, {"adapter": None, "sharding": "zero3", "shards": 8}),
    "FSDP": ({"adapter": None}, {"adapter": None, "sharding": "fsdp", "shards": 8}),
    "optimizer offload": (
        {"adapter": None, "sharding": "zero2", "shards": 8},
        {"adapter": None, "sharding": "zero2", "shards": 8, "offload_optimizer": "cpu"},
    ),
    "parameter offload": (
        {"adapter": None, "sharding": "zero3", "shards": 2},
        {"adapter": None, "sharding": "zero3", "shards": 2, "offload_param": "cpu"},
    ),
    "Ulysses": ({}, {"sequence": "ulysses", "sequence_size": 8}),
    "ring": ({}, {"sequence": "ring", "sequence_size": 8}),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_saves_memory_saves_it(name: str) -> None:
    """Each technique of the advice needs less than the same step without it."""
    before, after = (Setup(**{"adapter": LORA, **keys}) for keys in CHANGES[name])
    assert peak(after) < peak(before)


def test_checkpoints_are_the_inputs_of_all_layers() -> None:
    """A layer more costs its weights and one input of 4096 elements in bf16 for each token."""
    more = replace(SHAPE, layers=33)
    setup = Setup(adapter=replace(LORA, target_modules=("q_proj",)))
    counted = [States(shape, setup) for shape in (SHAPE, more)]
    standing = [one.weights + one.adapters + one.optimizer + one.gradients for one in counted]
    assert peak(setup, shape=more) - peak(setup) == pytest.approx(
        standing[1] - standing[0] + 32768 * 4096 * 2, rel=0.01
    )


def test_offloaded_activations_lie_in_pinned_memory() -> None:
    """The host holds one checkpoint a layer, each rounded up to a power of two."""
    host = memory(SHAPE, Setup(adapter=LORA, activation_offload=True), 32768).host
    assert host["activations"] == 32 * 32768 * 4096 * 2
    assert pinned(5) == 8
    assert pinned(8) == 8


def test_the_largest_window_is_the_last_that_fits() -> None:
    """One step of `multiple` tokens more does not fit, neither in the device nor in the host."""
    setup = Setup(adapter=LORA)
    window = largest_window(SHAPE, setup, 80 * GIB, 512 * GIB)
    assert memory(SHAPE, setup, window).peak_bytes <= 80 * GIB < memory(SHAPE, setup, window + 1024).peak_bytes
    offload = replace(setup, activation_offload=True)
    hosted = largest_window(SHAPE, offload, 80 * GIB, 20 * GIB)
    assert memory(SHAPE, offload, hosted).host_bytes <= 20 * GIB < memory(SHAPE, offload, hosted + 1024).host_bytes
    assert largest_window(SHAPE, Setup(), 24 * GIB, 512 * GIB) == 0


WALKS = [
    {},
    {"weights": "float32"},
    {"weights": "float32", "compute_bytes": 4},
    {"weights": "nf4", "adapter": LORA},
    {"adapter": LORA},
    {"adapter": LORA, "weights": "float32"},
    {"adapter": replace(LORA, dtype_bytes=2)},
    {"adapter": replace(LORA, target_modules=("q_proj", "v_proj", "qkv_proj", "query_key_value"))},
    {"mlp_tile": 512},
    {"mlp_tile": 512, "adapter": LORA},
    {"attention": "eager"},
    {"dense_mask": True},
    {"liger_layers": True},
    {"sequence": "ulysses", "sequence_size": 4},
]


@pytest.mark.parametrize("backend", [CUDA, TRACKED], ids=["cuda", "tracked"])
@pytest.mark.parametrize("model_type", sorted(FAMILIES))
@pytest.mark.parametrize("setup", WALKS, ids=str)
def test_what_a_layer_takes_it_gives_back(setup: dict[str, Any], model_type: str, backend: Backend) -> None:
    """After the forward as much is live as it says to keep, after the backward nothing, with and without stopping."""
    layer = Layer(Sizes(shape_of({"model_type": model_type}), Setup(**setup), 4096, backend))
    for stops in (False, True):
        tape = Tape()
        layer.forward(tape, stops=stops)
        assert tape.live["activations"] == pytest.approx(layer.kept)
        layer.backward(tape)
        assert tape.live["activations"] == pytest.approx(0, abs=1)


def test_parts_add_up() -> None:
    """The peak is the sum of its parts, and what the allocator hands out is all but the margin."""
    needed = memory(SHAPE, Setup(adapter=LORA), 8192)
    assert needed == Memory(needed.device, needed.host)
    assert needed.peak_bytes == sum(needed.device.values())
    assert needed.allocated_bytes == needed.peak_bytes - needed.device["fragmentation"]
    assert all(size >= 0 for size in needed.device.values())
