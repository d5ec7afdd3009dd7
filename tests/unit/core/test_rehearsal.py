"""What a rehearsal changes: all lengths by one factor, a small model of the same structure, and no more."""

from __future__ import annotations

from typing import Annotated

import pytest
from pydantic import Field

from ctxkit import checks
from ctxkit.errors import RecipeError
from ctxkit.host import Host
from ctxkit.layers import Node
from ctxkit.registry import Registry
from ctxkit.rehearsal import Found, halvings, rehearsed, said, toy_config
from ctxkit.rehearsal.scaling import shrunk
from ctxkit.rehearsal.walking import Sized, sizes
from ctxkit.spec import Options, Samples, Tokens
from tests.conftest import Load

LONG = """\
name: demo
model: {name_or_path: some/model, original_max_position_embeddings: 4096, dtype: bfloat16}
rope: {kind: yarn, factor: 8}
data:
  sources: [{kind: files, paths: ["*.txt"]}]
  filters: [{kind: tokens, min_tokens: 2048}, {kind: repetition, ngram: 50}]
  chunker: {kind: overlap, length: 32768, overlap: 1024}
  packing: {length: 32768}
  length_bands: [{least: 0, share: 1}, {least: 16384, share: 1}]
train: {max_steps: 400, warmup_steps: 20, gradient_accumulation_steps: 8, deepspeed: zero3.json, optim: lion_8bit,
        max_length: 32768}
evals:
  - {kind: passkey, haystack: {kind: files, paths: ["*.md"]}, lengths: [4096, 32768]}
"""


def small(load: Load, registry: Registry, host: Host, text: str = LONG, halved: int = 5):
    """Return a recipe made small, and checked again."""
    located = load(text)
    tree, changes = rehearsed(located, Found(halved))
    return checks.checked(tree, registry, host, located.file), changes


def test_lengths_keep_their_ratios(load: Load, registry: Registry, host: Host) -> None:
    """Every length in tokens, wherever it stands, is 1/32; n-grams, shares and factors stay."""
    recipe = small(load, registry, host)[0].recipe
    stage = recipe.stages[0]
    assert recipe.model.original_max_position_embeddings == 128
    assert stage.rope is not None
    assert (stage.rope.factor, stage.rope.window(128)) == (8, 1024)
    data = stage.data
    assert (data.chunker.length, data.chunker.overlap, data.row_length) == (1024, 32, 1024)
    assert [band.least for band in data.length_bands] == [0, 512]
    assert (data.filters[0].min_tokens, data.filters[1].ngram) == (64, 50)
    assert stage.evals[0].lengths == (128, 1024)
    assert "max_length" not in stage.train


def test_evals_measure_at_their_ends(load: Load, registry: Registry, host: Host) -> None:
    """The shortest and the longest length, which is said; other lists of lengths are whole."""
    text = LONG.replace("lengths: [4096, 32768]", "lengths: [16384, 4096, 8192, 32768]")
    located, changes = small(load, registry, host, text)
    assert located.recipe.stages[0].evals[0].lengths == (128, 1024)
    (line,) = [line for line in said(changes, located.recipe) if line.startswith("evals.0.lengths")]
    assert line.endswith("[128, 1024]  (lengths shrink alike, by 32; the shortest and the longest are measured)")
    bands = Sized(("stages", "0", "curriculum", "bands"), (0, 4096, 8192), Tokens(), 0)
    assert shrunk(bands, 5) == (0, 128, 256)


def test_periods_shrink_as_their_documents_do(load: Load, registry: Registry, host: Host) -> None:
    """Documents of 300 characters become as short as their segments were long, and still hold whole segments."""
    text = LONG.replace('{kind: files, paths: ["*.txt"]}', "{kind: repeats, documents: 9, length: 300}")
    (source,) = small(load, registry, host, text)[0].recipe.stages[0].data.sources
    assert (source.length, source.min_period, source.max_period) == (300 // 32, 1, 1)


def test_training_is_short_and_on_the_cpu(load: Load, registry: Registry, host: Host) -> None:
    """A few steps of few rows; what needs a GPU is left out."""
    recipe = small(load, registry, host)[0].recipe
    train = recipe.stages[0].train
    assert train["max_steps"] == 2
    assert (train["warmup_steps"], train["gradient_accumulation_steps"], train["bf16"]) == (1, 2, False)
    assert "deepspeed" not in train
    assert train["optim"] == "adamw_torch"
    assert (recipe.name, recipe.model.dtype) == ("demo-rehearsal", "float32")
    assert recipe.stages[0].evals[0].samples == 1


def test_every_change_is_said_once(load: Load, registry: Registry, host: Host) -> None:
    """The list names old and new value and the reason; stages that change alike share a line."""
    text = LONG + "stages: [{name: a}, {name: b, train: {max_steps: 1}}]\n"
    located, changes = small(load, registry, host, text)
    lines = said(changes, located.recipe)
    assert "data.chunker.length: 32768 -> 1024  (lengths shrink alike, by 32)" in lines
    assert "train.max_steps: 400 -> 2  (a rehearsal has 2 steps)  [a]" in lines
    assert not [line for line in lines if "max_steps: 1" in line]
    assert "train.deepspeed: zero3.json -> left out  (a rehearsal runs on the CPU, in one process)" in lines


def test_a_fault_still_points_to_the_file(load: Load, registry: Registry, host: Host) -> None:
    """What is wrong with the values that stay is shown where the person wrote it."""
    located = load(LONG)
    tree, _ = rehearsed(located, Found(5))
    broken = Node({**tree.value, "result": Node("nowhere", located.stages["demo"].origin)}, tree.origin)
    with pytest.raises(RecipeError, match=r"recipe\.yaml"):
        checks.checked(broken, registry, host, located.file)


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [
        ([4096, 32768], 5),  # 1,024 tokens
        ([2048, 32768], 4),  # the shortest prompt has room for needle and question: at least 96
        ([128, 1024], 0),
        ([1024, 1048576], 9),  # ratios give way where the longest would be more than 2,048
    ],
)
def test_how_small(load: Load, minimal: str, lengths: list[int], expected: int) -> None:
    """The longest window comes near 1,024 tokens, unless the shortest length would be too short to measure."""
    evals = f"evals: [{{kind: passkey, haystack: {{kind: files, paths: [a]}}, lengths: {lengths}}}]"
    assert halvings(load(f"{minimal}{evals}").recipe, 128) == expected


class Listed(Options):
    """A plugin's options."""

    lengths: tuple[Annotated[int, Field(ge=8), Tokens()], ...] = ()
    aim: Annotated[int, Tokens()] | None = Field(default=None, ge=4)
    prompts: Annotated[int, Samples(least=3)] = 5
    plain: int = 7


class Narrowed(Listed):
    """One that declares a field anew, without its mark."""

    aim: int = Field(ge=16)


def test_marks_are_found_wherever_they_stand() -> None:
    """In a list, beside null, and in a class further up; numbers without a mark are left alone."""
    found = {sized.path: (sized.value, type(sized.size), sized.least) for sized in sizes(Listed(lengths=(64,), aim=32))}
    assert found == {
        ("lengths",): ((64,), Tokens, 8),
        ("aim",): (32, Tokens, 4),
        ("prompts",): (5, Samples, 3),
    }
    assert Sized(("aim",), 32, Tokens(), 16) in list(sizes(Narrowed(aim=32)))


LLAMA3 = {
    "model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "head_dim": 128,
    "num_attention_heads": 32, "num_key_value_heads": 8, "max_position_embeddings": 131072, "vocab_size": 128256,
    "rope_parameters": {"rope_type": "llama3", "rope_theta": 5e5, "original_max_position_embeddings": 8192},
    "tie_word_embeddings": False,
}  # fmt: skip


def test_a_small_model_has_the_same_structure() -> None:
    """The class, theta, size of a head and shared keys stay; lengths shrink; what follows from the tokenizer goes."""
    toy = toy_config(LLAMA3, 6)
    assert (toy["num_attention_heads"], toy["num_key_value_heads"], toy["head_dim"]) == (2, 1, 128)
    assert (toy["hidden_size"], toy["intermediate_size"], toy["num_hidden_layers"]) == (256, 128, 2)
    assert toy["max_position_embeddings"] == 2048
    assert toy["rope_parameters"] == {"rope_type": "llama3", "rope_theta": 5e5, "original_max_position_embeddings": 128}
    assert "vocab_size" not in toy


def test_each_type_of_layer_is_kept() -> None:
    """As many layers as show sliding and full attention; lists of one item a layer are as short."""
    types = (["sliding_attention"] * 5 + ["full_attention"]) * 4
    toy = toy_config({**LLAMA3, "num_hidden_layers": 24, "layer_types": types, "sliding_window": 4096}, 5)
    assert (toy["num_hidden_layers"], toy["layer_types"], toy["sliding_window"]) == (6, types[:6], 128)


def test_experts_stay_experts() -> None:
    """Fewer of them, and fewer of these asked."""
    toy = toy_config({**LLAMA3, "num_local_experts": 128, "num_experts_per_tok": 8, "moe_intermediate_size": 768}, 0)
    assert (toy["num_local_experts"], toy["num_experts_per_tok"], toy["moe_intermediate_size"]) == (4, 2, 64)


def test_a_small_model_stays_as_it_is() -> None:
    """But for its lengths."""
    config = {"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 9, "max_position_embeddings": 512}
    assert toy_config(config, 1) == {**config, "max_position_embeddings": 256}
