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

from ctxkit import checks, layers
from ctxkit.host import Host
from ctxkit.plan import plan, render
from ctxkit.registry import Registry
from ctxkit.schema import recipe_schema

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
    assert all(stage["tokens"] if stage["steps"] else stage["tokens"] is None for stage in planned["stages"])
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


@pytest.mark.slow
@pytest.mark.torch
@pytest.mark.parametrize("path", RECIPES, ids=name)
def test_recipe_rehearses(path: Path, tmp_path: Path) -> None:
    """A recipe runs whole at toy size, every stage trained and measured."""
    line = [sys.executable, "-m", "ctxkit", "run", str(path), "--rehearse", "--run-dir", str(tmp_path / "run")]
    done = subprocess.run(line, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    about = json.loads((tmp_path / "run/run.json").read_text())
    stages = yaml.safe_load((tmp_path / "run/recipe.yaml").read_text())["stages"]
    assert about["status"] == "done"
    assert {stage["name"] for stage in stages} <= {stage["name"] for stage in about["stages"]}


def test_every_base_is_used() -> None:
    """No fragment lies about that nothing extends."""
    used = set()
    for path in EVERY:
        extends = yaml.safe_load(path.read_text()).get("extends", [])
        used |= {(path.parent / base).resolve() for base in ([extends] if isinstance(extends, str) else extends)}
    assert used == {path for path in EVERY if path not in RECIPES}


def test_every_recipe_has_its_row() -> None:
    """The table of `recipes/README.md` names exactly the recipes that there are."""
    rows = re.findall(r"(?m)^\| \[([^\]]+\.yaml)\]\(([^)]+)\)", (FOLDER / "README.md").read_text())
    assert sorted(rows) == [(name(path), name(path)) for path in RECIPES]


def test_generated_pages_are_fresh() -> None:
    """The schema, the components and the plans in the documentation are those of the code."""
    line = [sys.executable, str(ROOT / "docs/generate.py"), "--check"]
    done = subprocess.run(line, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
