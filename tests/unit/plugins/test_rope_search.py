"""The search for LongRoPE's factors: operators by hand, where it starts, what it promises, how a recipe says it."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ctxkit import checks, identity
from ctxkit.errors import CtxkitError
from ctxkit.host import Host
from ctxkit.registry import Registry
from ctxkit.rehearsal import Found, rehearsed
from ctxkit.spec import Context
from ctxkit_rope import LongropeOptions
from ctxkit_rope.evolution import Evolution, Factors, Sizes, Space, crossed
from ctxkit_rope.longrope_search import Search
from tests.conftest import Faults, Load

SIZES = Sizes(population=12, iterations=30, mutations=6, crossovers=6, parents=6, mutation_probability=0.3)
WINDOWS = {"original_max_position_embeddings": 128, "target_length": 512}


class Scripted(random.Random):
    """Chance that says what a test wants."""

    def __init__(self, *values: float) -> None:
        super().__init__()
        self.values = list(values)

    def random(self) -> float:
        return self.values.pop(0)


def test_a_mutation_by_hand() -> None:
    """A pair that is chosen gets a step between its neighbours as they now are, both included; the last one has room.

    The second of (1, 2, 4) is drawn from 1, 1.5, ... 4: seven steps, the last of them. The third from 4, 4.5, 5.
    """
    chance = Scripted(0.9, 0.1, 0.99, 0.1, 0.5)
    assert Space(5, 0.5).mutated((1.0, 2.0, 4.0), 0.5, chance) == (1.0, 4.0, 4.5)
    assert not chance.values


def test_a_mutation_between_steps() -> None:
    """The first pair is drawn from 1 on; where no step lies between the neighbours, a pair stays."""
    assert Space(4, 0.5).mutated((1.3, 2.7), 0.5, Scripted(0.1, 0.99, 0.9)) == (2.5, 2.7)
    assert Space(4, 0.5).mutated((1.6, 1.7, 1.8), 0.5, Scripted(0.9, 0.1, 0.9)) == (1.6, 1.7, 1.8)


def test_a_hair_beside_a_step() -> None:
    """What a formula gives a hair below a step counts as the step, and yet nothing is drawn above it."""
    assert Space(5, 0.5).mutated((1.0, 2.4999999999), 0.5, Scripted(0.1, 0.99, 0.9)) == (2.4999999999, 2.4999999999)


def test_a_crossover_by_hand() -> None:
    """Each place comes from the parent that chance says, unless that would fall below the one before it."""
    first, second = (1.0, 2.0, 3.0, 4.0), (2.5, 2.6, 2.7, 5.0)
    assert crossed(first, second, 0.5, Scripted(0.9, 0.1, 0.9, 0.1)) == (1.0, 2.6, 3.0, 5.0)
    # The second place of the first parent, 2, is below 2.5, so the second parent goes on.
    assert crossed(first, second, 0.5, Scripted(0.1, 0.9, 0.9, 0.9)) == (2.5, 2.6, 3.0, 4.0)


ordered = st.lists(st.floats(1, 5), min_size=1, max_size=8).map(lambda values: tuple(sorted(values)))


@given(ordered, st.integers(0, 99), st.sampled_from([0.01, 0.3, 0.5]))
def test_every_mutation_keeps_the_constraints(parent: Factors, seed: int, step: float) -> None:
    """From 1 to the largest, none below the one before it, each on a step unless it stands where its parent did."""
    child = Space(5, step).mutated(parent, 0.5, random.Random(seed))
    assert len(child) == len(parent)
    assert all(np.diff(child) >= 0)
    assert child[0] >= 1
    assert child[-1] <= 5
    drawn = [value for value, before in zip(child, parent, strict=True) if value != before]
    off = [value for value in drawn if abs((value - 1) / step - round((value - 1) / step)) > 1e-4]
    assert set(off) <= set(parent)


@given(st.data(), st.integers(0, 99))
def test_every_crossover_keeps_the_constraints(data: st.DataObject, seed: int) -> None:
    """None is below the one before it, and each is that of one of the parents at its place."""
    first = data.draw(ordered)
    second = data.draw(st.lists(st.floats(1, 5), min_size=len(first), max_size=len(first)).map(sorted))
    child = crossed(first, tuple(second), 0.5, random.Random(seed))
    assert all(np.diff(child) >= 0)
    assert all(value in pair for value, pair in zip(child, zip(first, second, strict=True), strict=True))


def search(**fields: Any) -> Search:
    """Return a search for four times 128 tokens."""
    return Search(**WINDOWS, **{"attention_factor": None, "sizes": SIZES, "step": 0.01, "seed": 0} | fields)


@pytest.mark.parametrize(("dim", "theta"), [(64, 1e4), (128, 5e5), (8, 1e4)])
@pytest.mark.torch
def test_it_starts_from_the_published_methods(dim: int, theta: float) -> None:
    """A frequency divided by its factor is transformers' own: linear and YaRN, and theta raised by the NTK formula."""
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    def frequencies(kind: str) -> np.ndarray:
        rope = {"rope_type": kind, "rope_theta": theta, "factor": 4.0, "original_max_position_embeddings": 128}
        config = LlamaConfig(hidden_size=dim, num_attention_heads=1, max_position_embeddings=512, rope_parameters=rope)
        return ROPE_INIT_FUNCTIONS[kind](config, device="cpu")[0].double().numpy()

    unscaled = theta ** (-np.arange(0, dim, 2) / dim)
    raised = (theta * 4 ** (dim / (dim - 2))) ** (-np.arange(0, dim, 2) / dim)
    starts = {name: np.array(factors) for name, factors in search().starts(dim, theta).items()}
    np.testing.assert_allclose(unscaled / starts["pi"], frequencies("linear"), rtol=1e-6)
    np.testing.assert_allclose(unscaled / starts["yarn"], frequencies("yarn"), rtol=1e-6)
    np.testing.assert_allclose(unscaled / starts["ntk"], raised, rtol=1e-12)
    assert all((np.diff(factors) >= -1e-12).all() for factors in starts.values())


class Bench:
    """A context whose perplexities are a function of the factors; it remembers what it was asked."""

    def __init__(self, perplexity: Any, **parameters: Any) -> None:
        rope = {"rope_type": "default", "rope_theta": 1e4, **parameters}
        self.config = SimpleNamespace(model_type="llama", head_dim=8, rope_parameters=rope)
        self.perplexity, self.asked = perplexity, []

    def measure(self, scaler: Any, length: int) -> float:
        assert length == 512
        self.asked.append(scaler.long_factor)
        return self.perplexity(np.array(scaler.long_factor))


HIDDEN = np.array([1.0, 1.7, 3.1, 4.6])


def distance(factors: np.ndarray) -> float:
    """Return the distance to factors that no method starts with."""
    return float(np.square(factors - HIDDEN).sum())


def test_it_finds_what_no_method_starts_with() -> None:
    """The lowest perplexity lies elsewhere, and is nearly reached; nothing is measured twice."""
    bench = Bench(distance)
    found = search()(bench)
    assert found["perplexity"]["searched"] == distance(np.array(found["long_factor"])) < 0.1
    assert found["perplexity"]["searched"] < min(found["perplexity"][name] for name in ("pi", "ntk", "yarn"))
    assert found["short_factor"] == [1, 1, 1, 1]
    assert len(set(bench.asked)) == len(bench.asked) == SIZES.evaluations == 12 + 30 * 12
    assert all((np.diff(factors) >= 0).all() and factors[0] >= 1 and factors[-1] <= 5 for factors in bench.asked)


def test_it_is_never_worse_than_its_starts() -> None:
    """Where everything else is bad, the best of the starts is the result."""
    yarn = search().starts(8, 1e4)["yarn"]
    found = search()(Bench(lambda factors: 1.0 if tuple(factors) == yarn else math.inf))
    assert tuple(found["long_factor"]) == yarn
    assert found["perplexity"] == {"pi": None, "ntk": None, "yarn": 1.0, "searched": 1.0}


def test_a_seed_is_one_search() -> None:
    """The same seed asks the same in the same order; another asks something else."""
    first, again, other = Bench(distance), Bench(distance), Bench(distance)
    results = [search(seed=seed)(bench) for seed, bench in ((0, first), (0, again), (1, other))]
    assert (first.asked, results[0]) == (again.asked, results[1])
    assert first.asked != other.asked


def test_a_narrow_space_ends() -> None:
    """Where there are fewer candidates than are asked for, all are measured and the search ends."""
    evolution = Evolution(Space(1.5, 0.5), SIZES, random.Random(0), sum)
    assert evolution.best([(1.5, 1.5)]) == (1.0, 1.0)


def test_a_short_factor_of_its_own_stays() -> None:
    """A model that was extended by LongRoPE keeps what it has within the original window."""
    short, long = [1.0, 1.1, 1.2, 1.3], [1.0, 2.0, 3.0, 4.0]
    bench = Bench(distance, rope_type="longrope", short_factor=short, long_factor=long)
    assert search()(bench)["short_factor"] == short


@pytest.mark.parametrize(
    ("fields", "perplexity", "reason"),
    [({"target_length": 128}, distance, "all factors are 1"), ({}, lambda _: math.inf, "no factors give a finite")],
)
def test_nothing_to_search(fields: dict[str, Any], perplexity: Any, reason: str) -> None:
    """A search that cannot find anything says so."""
    with pytest.raises(CtxkitError, match=reason):
        Search(**WINDOWS | fields, attention_factor=None, sizes=SIZES, step=0.01, seed=0)(Bench(perplexity))


RECIPE = """\
name: demo
model: {name_or_path: some/model, original_max_position_embeddings: 128}
rope:
  kind: longrope
  target_length: 512
  factors: FILE
  search: {source: {kind: files, paths: ["*.txt"]}, population: 8}
data:
  sources: [{kind: files, paths: ["*.txt"]}]
  chunker: {kind: overlap, length: 512}
train: {max_steps: 5}
"""


def test_a_missing_file_names_the_command(faults: Faults, tmp_path: Path) -> None:
    """What is not searched yet is one fault at the file, and how it is made."""
    (fault,) = faults(RECIPE.replace("FILE", str(tmp_path / "f.json")))
    assert "f.json does not exist yet; `ctxkit search-rope" in fault.render()
    assert "recipe.yaml:6:12: rope.factors" in fault.render()


def unsearched(load: Load, host: Host, registry: Registry, file: Path, *sets: str) -> Any:
    """Load the recipe, its search not made yet."""
    recipe = file.with_name("unsearched.yaml")
    recipe.write_text(RECIPE.replace("FILE", str(file)))
    return checks.load(recipe, registry, host, sets, unsearched=True)


def test_a_result_is_what_the_recipe_is(
    load: Load, faults: Faults, host: Host, registry: Registry, tmp_path: Path
) -> None:
    """With its result the recipe holds the lists, and neither the file nor the search; of another search it is refused.

    A search that would find something else is named by what differs, and a file that no search made is not taken.
    """
    file = tmp_path / "f.json"
    plan = unsearched(load, host, registry, file).recipe.stages[0].rope.search_plan()
    assert (plan.documents, plan.evaluations) == (5, 8 + 40 * 32)
    result = {"target_length": 512, "long_factor": [1, 2], "short_factor": [1, 1]}
    file.write_text(json.dumps({**result, "made_by": {"rope": dict(plan.determined_by)}}))
    located = load(RECIPE.replace("FILE", str(file)))
    dumped = identity.plain(located.recipe)["stages"][0]["rope"]
    assert (dumped["long_factor"], dumped.keys() & {"factors", "search"}) == ([1, 2], set())
    sources = [used for used in identity.used(located.recipe) if used.slot == "source"]
    assert len(sources) == 1  # that of the data; the search is no part of the run
    (fault,) = faults(RECIPE.replace("FILE", str(file)), "rope.search.seed=3", "rope.search.parents=8")
    assert "rope.search.parents: 32 -> 8; rope.search.seed: 0 -> 3" in fault.message
    file.write_text(json.dumps(result))
    (fault,) = faults(RECIPE.replace("FILE", str(file)))
    assert "is not the result of a search" in fault.message


def test_a_rehearsal_has_a_stand_in(load: Load, host: Host, registry: Registry, tmp_path: Path) -> None:
    """Before the search, position interpolation stands in; after it, the lists take the place of their file."""
    file = tmp_path / "f.json"
    found = Found(1, config={"hidden_size": 32, "num_attention_heads": 4, "partial_rotary_factor": 0.5}, window=128)
    located = unsearched(load, host, registry, file)
    tree, changes = rehearsed(located, found)
    rope = checks.checked(tree, registry, host, located.file).recipe.stages[0].rope
    assert (rope.long_factor, rope.window(64)) == ((4.0, 4.0), 256)
    assert [change.why for change, _ in changes if change.path[-1] == "long_factor"] == [
        f"STAND-IN: {file} does not exist yet"
    ]
    plan = located.recipe.stages[0].rope.search_plan()
    made = {"target_length": 512, "long_factor": [1, 2], "made_by": {"rope": dict(plan.determined_by)}}
    file.write_text(json.dumps(made))
    tree, _ = rehearsed(unsearched(load, host, registry, file), found)
    assert checks.checked(tree, registry, host, located.file).recipe.stages[0].rope.long_factor == (1, 2)


@pytest.mark.torch
@pytest.mark.parametrize(
    ("kind", "fields", "pairs"),
    [
        ("phi", {}, 8),
        ("stablelm", {}, 4),
        ("glm", {"head_dim": 16}, 4),
        ("gpt_neox", {}, 4),
        ("gemma3_text", {"head_dim": 16}, 8),
        ("llama", {}, 16),
    ],
)
def test_a_stand_in_has_as_many_factors_as_the_model_rotates_pairs(
    kind: str, fields: dict[str, Any], pairs: int, registry: Registry, tmp_path: Path
) -> None:
    """Wherever transformers holds which part of a head is rotated, it is as many as its own frequencies are."""
    from transformers import AutoConfig, AutoModel

    size = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1, "vocab_size": 64, "pad_token_id": 0}
    config = AutoConfig.for_model(kind, **size, num_attention_heads=2, num_key_value_heads=2, **fields)
    (rotary,) = (part for name, part in AutoModel.from_config(config).named_modules() if name.endswith("rotary_emb"))
    frequencies = {len(buffer) for name, buffer in rotary.named_buffers() if name.endswith("inv_freq")}
    search = {"source": {"kind": "files", "paths": ["*"]}}
    stated = {"kind": "longrope", "factor": 4, "factors": str(tmp_path / "f.json"), "search": search}
    lists = LongropeOptions.model_validate(stated, context=registry.context).rehearsed(config.to_dict(), 128)
    assert {len(lists["long_factor"]), len(lists["short_factor"])} == {pairs} == frequencies


@pytest.mark.parametrize("aim", [{"target_length": 256}, {"factor": 2}])
def test_a_result_for_another_window_has_a_stand_in(aim: dict[str, Any], registry: Registry, tmp_path: Path) -> None:
    """A search that is to be made anew is rehearsed as one that was not made yet; it can be run and read, not built."""
    file = tmp_path / "f.json"
    file.write_text('{"target_length": 512, "long_factor": [1, 2]}')
    search = {"source": {"kind": "files", "paths": ["*"]}}
    stated = {"kind": "longrope", "factors": str(file), "search": search, **aim}
    options = LongropeOptions.model_validate(stated, context=registry.context)
    assert options.rehearsed({"head_dim": 8}, 128)["long_factor"] == [2.0] * 4
    with pytest.raises(CtxkitError, match="made for a target_length of 512, not 256"):
        options.build(Context(original_max_position_embeddings=128))


def test_a_search_without_a_result_builds_nothing(load: Load, host: Host, registry: Registry, tmp_path: Path) -> None:
    """Whoever goes past the checks is told what is missing."""
    options = unsearched(load, host, registry, tmp_path / "f.json").recipe.stages[0].rope
    with pytest.raises(CtxkitError, match=r"f\.json does not exist yet\n.*search-rope"):
        options.build(Context(original_max_position_embeddings=128))


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"factors": None}, "search needs factors"),
        ({"long_factor": [1, 2]}, "state it, or long_factor"),
        ({"search": {}}, "source"),
        ({"search": {"population": 2}}, "population"),
        ({"search": {"mutation_probability": 1.5}}, "mutation_probability"),
    ],
)
def test_wrong_searches(registry: Registry, tmp_path: Path, fields: dict[str, Any], reason: str) -> None:
    """A search without a place for its result, beside lists, or of impossible sizes is refused."""
    search = {"source": {"kind": "files", "paths": ["*"]}, **fields.pop("search", {"seed": 0})}
    search = {} if reason == "source" else search
    stated = {"kind": "longrope", "factor": 4, "factors": str(tmp_path / "f.json"), "search": search, **fields}
    with pytest.raises(ValidationError, match=reason):
        LongropeOptions.model_validate(stated, context=registry.context)
