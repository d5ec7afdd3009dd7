"""Every recipe that we ship is whole, valid and explained."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml

from ctxkit import checks, cli, layers
from ctxkit.errors import ExitCode
from ctxkit.host import Host
from ctxkit.plan import plan, render
from ctxkit.registry import Registry
from ctxkit.schema import recipe_schema
from ctxkit.spec import Context
from tests.integration.histories import small_repository

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "recipes"
RECIPES = sorted(FOLDER.glob("*.yaml"))
EVERY = sorted(FOLDER.rglob("*.yaml"))


def name(path: Path) -> str:
    """Return how a recipe is named in the folder."""
    return path.relative_to(FOLDER).as_posix()


def test_there_are_recipes() -> None:
    """The folder is found, the embedded default in it."""
    assert FOLDER / "tiny_yarn.yaml" in RECIPES


@pytest.mark.parametrize("path", RECIPES, ids=name)
def test_recipe_is_valid(path: Path, registry: Registry, host: Host) -> None:
    """A recipe passes every check and says nothing doubtful, and its plan counts tokens wherever it counts steps."""
    located = checks.load(path, registry, host)
    assert checks.warnings(located) == []
    planned = plan(located)
    for stage in planned["stages"]:
        assert stage["tokens"] == (None if stage["steps"] is None else stage["steps"] * stage["tokens_per_step"])
    assert planned["original_window"]
    assert located.recipe.name in render(planned)


@pytest.mark.parametrize("path", EVERY, ids=name)
def test_recipe_follows_the_schema(path: Path, registry: Registry) -> None:
    """A recipe, fragments included, is valid by the schema that editors use, and by what is published of it."""
    values = layers._mapping(path.read_text(), path).plain()
    jsonschema.validate(values, recipe_schema(registry))


@pytest.mark.parametrize("path", EVERY, ids=name)
def test_recipe_names_its_schema(path: Path) -> None:
    """The first line leads editors to the schema."""
    found = re.fullmatch(r"# yaml-language-server: \$schema=(\S+)", path.read_text().splitlines()[0])
    assert found
    assert (path.parent / found[1]).resolve() == ROOT / "docs/recipe.schema.json"


@pytest.mark.parametrize("path", RECIPES, ids=name)
def test_recipe_says_where_it_comes_from(path: Path, registry: Registry, host: Host) -> None:
    """A recipe has a description, and its stages measure something."""
    recipe = checks.load(path, registry, host).recipe
    assert len(recipe.description.split()) > 10
    assert any(stage.evals for stage in recipe.stages)


def workplace(path: Path, folder: Path) -> Path:
    """Return the working directory of a recipe: one with the texts or the git history that it asks for."""
    if "kind: git_history, path: ." in path.read_text():
        return small_repository(folder)
    if "texts/train" not in path.read_text():
        return ROOT
    for name, page in (("train/a", "data"), ("train/b/c", "recipe"), ("held_out/a", "plugins")):
        target = folder / "texts" / f"{name}.txt"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text((ROOT / "docs" / f"{page}.md").read_text())
    return folder


@pytest.mark.slow
@pytest.mark.torch
@pytest.mark.parametrize("path", RECIPES, ids=name)
def test_recipe_rehearses(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A recipe runs whole at toy size, every stage trained and measured."""
    monkeypatch.chdir(workplace(path, tmp_path))
    assert cli.main(["run", str(path), "--rehearse", "--run-dir", str(tmp_path / "run")]) == ExitCode.DONE
    about = json.loads((tmp_path / "run/run.json").read_text())
    stages = yaml.safe_load((tmp_path / "run/recipe.yaml").read_text())["stages"]
    assert about["status"] == "done"
    assert {stage["name"] for stage in stages} <= {stage["name"] for stage in about["stages"]}


SHAPES = {
    "qwen25_timeseries_lora": ("qwen2", 896, 24, 14, 2, 540_672),
    "llama3_8b_style_qlora": ("llama", 4096, 32, 32, 8, 54_525_952),
}


@pytest.mark.torch
@pytest.mark.parametrize("recipe", SHAPES)
def test_adapter_has_as_many_parameters_as_the_recipe_says(recipe: str, registry: Registry, host: Host) -> None:
    """Counted by peft on a model of the published shape, without weights."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoConfig, AutoModelForCausalLM

    located = checks.load(FOLDER / f"{recipe}.yaml", registry, host)
    kind, hidden, layers, heads, key_heads, expected = SHAPES[recipe]
    shape = {"hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": heads}
    config = AutoConfig.for_model(kind, **shape, num_key_value_heads=key_heads)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
        adapted = get_peft_model(model, LoraConfig(**located.recipe.stages[0].adapter or {}))
    assert adapted.get_nb_trainable_parameters()[0] == expected
    said = f"{expected:,}" if expected < 1e6 else f"{expected / 1e6:.1f} M parameters"
    assert said in (FOLDER / f"{recipe}.yaml").read_text()


def test_arms_of_the_sweep_see_the_same_tokens(registry: Registry, host: Host) -> None:
    """Whatever the stretch, a step has as many tokens, and a trajectory fills a row."""
    file = FOLDER / "qwen25_timeseries_sweep.yaml"
    arms = [
        f"data.chunker.length={length}"
        for length in checks.load(file, registry, host).recipe.sweep["data.chunker.length"]
    ]
    located = [checks.load(file, registry, host, (arm,)) for arm in arms]
    assert {plan(arm)["stages"][0]["tokens"] for arm in located} == {3333 * 4 * 1536}
    for arm in located:
        data = arm.recipe.stages[0].data
        text = next(iter(data.sources[0].build(Context()))).text
        assert data.row_length - 10 < len(text) + 1 <= data.row_length


def test_every_base_is_used() -> None:
    """No fragment lies about that nothing extends."""
    used = set()
    for path in EVERY:
        extends = yaml.safe_load(path.read_text()).get("extends", [])
        used |= {(path.parent / base).resolve() for base in ([extends] if isinstance(extends, str) else extends)}
    assert used - set(RECIPES) == set((FOLDER / "base").glob("*.yaml"))


def test_every_recipe_has_its_row() -> None:
    """The table of `recipes/README.md` names exactly the recipes that there are."""
    rows = re.findall(r"(?m)^\| \[([^\]]+\.yaml)\]\(([^)]+)\)", (FOLDER / "README.md").read_text())
    assert sorted(rows) == [(name(path), name(path)) for path in RECIPES]


def test_generated_pages_are_fresh() -> None:
    """The schema, the components and the plans in the documentation are those of the code."""
    line = [sys.executable, str(ROOT / "docs/generate.py"), "--check"]
    done = subprocess.run(line, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
