"""The planner's time: operations against hand-computed ones and torch's counter, times against published runs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ctxkit.errors import CtxkitError
from ctxkit_planner.gpus import GPUS, gpu_found, gpu_named
from ctxkit_planner.machines import Machines
from ctxkit_planner.published import published_config
from ctxkit_planner.setup import Adapter, Setup
from ctxkit_planner.shape import Shape, shape_of
from ctxkit_planner.speed import active_weights, flops, step


def shape(name: str) -> Shape:
    """Return the shape of a published model."""
    config = published_config(name)
    assert config is not None
    return shape_of(config)


LLAMA3 = shape("meta-llama/Meta-Llama-3-8B")
LORA = Adapter(r=16, target_modules=("q_proj", "k_proj", "v_proj", "o_proj"))


@pytest.mark.parametrize(
    ("tokens", "full", "adapter", "selective", "kept"),
    [
        (8192, 11500, 14600, 15200, 20700),
        (32768, 8100, 9600, 10700, 13100),
        (131072, 3700, 4000, 4800, 5300),
        (262144, 2200, 2300, 2800, 2900),
        (524288, 1180, 1210, 1520, 1560),
    ],
)
def test_ceilings_of_an_8b_model(tokens: int, full: int, adapter: int, selective: int, kept: int) -> None:
    """Tokens a second at 800 TFLOP/s, as calculated apart from this: full, LoRA, LoRA with less recomputed, none."""
    setups = (
        Setup(),
        Setup(adapter=LORA),
        Setup(adapter=LORA, checkpointing="selective"),
        Setup(adapter=LORA, checkpointing="none"),
    )
    for setup, expected in zip(setups, (full, adapter, selective, kept), strict=True):
        assert 800e12 / flops(LLAMA3, setup, tokens).executed == pytest.approx(expected, rel=0.03)


def test_operations_by_hand() -> None:
    """A model small enough for paper: one layer, hidden 8, 2 heads of 4, 1 key-value head, inner 16, 32 words."""
    tiny = Shape(
        model_type="llama",
        layers=1,
        hidden_size=8,
        intermediate_size=16,
        heads=2,
        kv_heads=1,
        head_dim=4,
        vocab_size=32,
    )
    weights = 8 * 8 + 2 * 8 * 4 + 8 * 8 + 3 * 8 * 16  # queries, keys and values, output; gate, up and down
    assert active_weights(tiny) == weights
    scores = 2 * 2 * 8 * 10 / 2  # two products, two operations each, for 8 elements, over half of 10 tokens
    counted = flops(tiny, Setup(checkpointing="none", loss="full"), 10)
    assert counted.linear == 6 * weights
    assert counted.attention == pytest.approx(3.5 * scores)
    assert counted.head == 6 * 8 * 32
    assert counted.useful == counted.executed
    again = flops(tiny, Setup(), 10)
    assert again.linear == 8 * weights
    assert again.attention == pytest.approx(4.5 * scores)
    assert again.head == 8 * 8 * 32
    assert again.useful == counted.useful


def test_sliding_windows_by_counting() -> None:
    """Layers with a window see what a loop over positions counts."""
    windowed = replace(LLAMA3, window=100, window_layers=16)
    seen = sum(min(position, 100) for position in range(1, 1001)) / 1000
    expected = 4 * LLAMA3.query_size * (16 * 500 + 16 * seen) * 4.5
    assert flops(windowed, Setup(), 1000).attention == pytest.approx(expected, rel=0.01)


def test_experts_count_as_far_as_a_token_meets_them() -> None:
    """Qwen3-30B-A3B: 3.3 B parameters are active, of which 0.62 B are embedding and output layer (its model card)."""
    mixture = shape("Qwen/Qwen3-30B-A3B")
    embeddings = 2 * mixture.vocab_size * mixture.hidden_size
    assert active_weights(mixture) + embeddings == pytest.approx(3.3e9, rel=0.02)


@pytest.mark.torch
@pytest.mark.slow
def test_operations_as_torch_counts_them() -> None:
    """A real step of a small Llama, forward and backward, by torch's own counter; attention by its plain products."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import LlamaConfig, LlamaForCausalLM

    fields = {
        "vocab_size": 64,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    }
    config = LlamaConfig(**fields, attn_implementation="eager")
    model = LlamaForCausalLM(config)
    ids = torch.zeros((1, 40), dtype=torch.long)
    with FlopCounterMode(display=False) as counter:
        model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
    counted = flops(shape_of({"model_type": "llama", **fields}), Setup(checkpointing="none", loss="full"), 40)
    # Eager attention computes the whole square, and its backward pass twice that of its forward pass.
    square = counted.attention / 3.5 * 3 * 2
    assert counter.get_total_flops() / 40 == pytest.approx(counted.linear + counted.head + square)


PUBLISHED = [
    # torchtitan, 8 x H100 (500 W), Llama-3.1-8B, its docs of December 2024; tokens a second and GPU
    (
        "h100-80gb",
        "Llama-3.1-8B",
        Setup(sharding="fsdp", shards=8, rows=2, checkpointing="selective"),
        8192,
        5762,
        0.15,
    ),
    ("h100-80gb", "Llama-3.1-8B", Setup(sharding="fsdp", shards=8), 32768, 3890, 0.15),
    # EasyContext, 8 x A100 80 GB, Llama-2-7B, its README: 10,240 tokens a second on the machine
    ("a100-80gb", "Llama-2-7b-hf", Setup(sharding="zero3", shards=8, offload_optimizer="cpu"), 65536, 1280, 0.15),
]


@pytest.mark.parametrize(("gpu", "model", "setup", "tokens", "published", "within"), PUBLISHED)
def test_time_beside_published_runs(
    gpu: str, model: str, setup: Setup, tokens: int, published: float, within: float
) -> None:
    """The assumed rates give the throughput that others measured, within what docs/plan.md says."""
    made = step(shape(f"meta-llama/{model}"), setup, tokens, Machines(GPUS[gpu], 8))
    assert tokens * setup.rows / made.seconds == pytest.approx(published, rel=within)


def test_a_stated_share_of_the_peak_decides() -> None:
    """`--mfu` replaces every assumed rate: operations over it and the peak are the time."""
    setup = Setup(accumulation=4)
    made = step(LLAMA3, setup, 4096, Machines(GPUS["h100-80gb"], 1, mfu=0.5))
    assert made.compute == pytest.approx(4 * 4096 * flops(LLAMA3, setup, 4096).executed / (0.5 * 989.4e12))
    assert (made.mfu, made.assumed) == (pytest.approx(0.5), False)


def test_slow_links_are_seen() -> None:
    """FSDP without NVLink: gathering 8 B weights twice and summing gradients takes longer than short rows."""
    setup = Setup(sharding="fsdp", shards=8)
    on_pcie = step(LLAMA3, setup, 1024, Machines(GPUS["rtx-4090"], 8))
    on_nvlink = step(LLAMA3, setup, 8192, Machines(GPUS["h100-80gb"], 8))
    traffic = 7 / 8 * (4 * 8.03e9 + 4 * 8.03e9) / (0.8 * 31.5e9)
    assert on_pcie.links + on_pcie.compute == pytest.approx(traffic, rel=0.01)
    assert on_nvlink.links == 0


def test_the_update_on_the_host_takes_its_time() -> None:
    """CPU-Adam updates 8 B parameters in two seconds; on the GPUs it takes milliseconds."""
    offloaded = Setup(sharding="zero3", shards=8, offload_optimizer="cpu")
    machines = Machines(GPUS["h100-80gb"], 8)
    assert step(LLAMA3, offloaded, 8192, machines).update == pytest.approx(8.03 / 4, rel=0.1)
    assert step(LLAMA3, replace(offloaded, offload_optimizer="none"), 8192, machines).update < 0.02


def test_a_tiny_model_waits_for_python() -> None:
    """Layers take their launch time, however few operations they have."""
    tiny = shape_of({"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 3, "vocab_size": 256})
    made = step(tiny, Setup(accumulation=2), 64, Machines(GPUS["h100-80gb"], 1))
    assert made.compute == pytest.approx(2 * 3 * 1.2e-3)
    assert made.mfu < 0.01


@pytest.mark.parametrize("typed", ["h100-80gb", "H100", "h100_80gb", "H100 80GB"])
def test_names_as_people_type_them(typed: str) -> None:
    """Case and dashes do not matter."""
    assert gpu_named(typed) is GPUS["h100-80gb"]


@pytest.mark.parametrize(("typed", "near"), [("h10-80gb", "h100-80gb"), ("rtx4900", "rtx-4090"), ("x", ""), ("", "")])
def test_an_unknown_name_gets_near_ones(typed: str, near: str) -> None:
    """A misspelt GPU is refused with exit code 2, near names and all names."""
    with pytest.raises(CtxkitError) as caught:
        gpu_named(typed)
    assert caught.value.exit_code == 2
    assert near in caught.value.hint.partition("known:")[0]
    assert "mi300x" in caught.value.hint


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ("NVIDIA H100 80GB HBM3", "h100-80gb"),
        ("NVIDIA A100-SXM4-40GB", "a100-40gb"),
        ("NVIDIA GeForce RTX 4090", "rtx-4090"),
        ("Tesla T4", "t4"),
        ("NVIDIA L40S", "l40s"),
        ("NVIDIA L4", "l4"),
        ("AMD Instinct MI300X", "mi300x"),
    ],
)
def test_names_as_drivers_say_them(said: str, name: str) -> None:
    """A run that ran out of memory knows its GPU by the driver's name, and its true memory."""
    found = gpu_found(said, 123 << 30)
    assert found is not None
    assert (found.name, found.memory_bytes) == (name, 123 << 30)


def test_unknown_gpus_of_drivers() -> None:
    """Of an unknown GPU the memory counts; without that there is nothing to say."""
    found = gpu_found("Some Future GPU", 10 << 30)
    assert found is not None
    assert (found.name, found.memory_bytes) == ("Some Future GPU", 10 << 30)
    assert gpu_found("Some Future GPU", None) is None


def test_data_sheets() -> None:
    """What data sheets say: 80 GB and 989 TFLOP/s for H100 SXM, 312 for A100; and nothing is 1,000 times off."""
    assert GPUS["h100-80gb"].peak == pytest.approx(989.4e12)
    assert GPUS["a100-80gb"].peak == pytest.approx(312e12)
    for name, gpu in GPUS.items():
        size = next((int(word[:-2]) for word in name.split("-") if word.endswith("gb")), None)
        assert size is None or gpu.memory_bytes == pytest.approx(size * 2**30, rel=0.08)
        assert 50e12 < gpu.peak < 3000e12
        assert 10e9 < gpu.host_link <= gpu.link < gpu.memory_rate < 10e12


PARAMETERS = {
    # as the model pages of the hub count them (a tied output layer once)
    "meta-llama/Llama-2-7b-hf": 6_738_415_616,
    "meta-llama/Llama-2-13b-hf": 13_015_864_320,
    "meta-llama/Llama-2-70b-hf": 68_976_648_192,
    "meta-llama/Meta-Llama-3-8B": 8_030_261_248,
    "meta-llama/Llama-3.1-70B": 70_553_706_496,
    "meta-llama/Llama-3.2-1B": 1_235_814_400,
    "meta-llama/Llama-3.2-3B": 3_212_749_824,
    "mistralai/Mistral-7B-v0.1": 7_241_732_096,
    "mistralai/Mistral-7B-v0.3": 7_248_023_552,
    "mistralai/Mistral-Nemo-Base-2407": 12_247_782_400,
    "Qwen/Qwen2.5-0.5B": 494_032_768,
    "Qwen/Qwen2.5-1.5B": 1_543_714_304,
    "Qwen/Qwen2.5-3B": 3_085_938_688,
    "Qwen/Qwen2.5-7B": 7_615_616_512,
    "Qwen/Qwen2.5-14B": 14_770_033_664,
    "Qwen/Qwen2.5-32B": 32_763_876_352,
    "Qwen/Qwen2.5-72B": 72_706_203_648,
    "Qwen/Qwen3-0.6B": 596_049_920,
    "Qwen/Qwen3-1.7B": 1_720_574_976,
    "Qwen/Qwen3-4B": 4_022_468_096,
    "Qwen/Qwen3-8B": 8_190_735_360,
    "Qwen/Qwen3-14B": 14_768_307_200,
    "Qwen/Qwen3-32B": 32_762_123_264,
    "Qwen/Qwen3-30B-A3B": 30_532_122_624,
    "bigcode/starcoder2-3b": 3_030_371_328,
    "bigcode/starcoder2-7b": 7_173_923_840,
    "bigcode/starcoder2-15b": 15_957_889_024,
    "microsoft/Phi-3-mini-4k-instruct": 3_821_079_552,
    "microsoft/phi-4": 14_659_507_200,
    "google/gemma-2-2b": 2_614_341_888,
    "google/gemma-2-9b": 9_241_705_984,
    "google/gemma-2-27b": 27_227_128_320,
}


@pytest.mark.parametrize(("name", "count"), PARAMETERS.items())
def test_published_shapes(name: str, count: int) -> None:
    """The listed shapes have the parameters that were published of the models."""
    from ctxkit_planner.parameters import parameters

    assert parameters(shape(name)).base == count


def test_unpublished_shapes() -> None:
    """A model that is not listed has no shape here; names are told apart by their letters alone."""
    assert published_config("some/model") is None
    assert published_config("qwen/qwen2.5-7b") == published_config("Qwen/Qwen2.5-7B")
