"""The recipes and the code that the documentation of curricula prints."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from tests.conftest import Load

PAGE = (Path(__file__).parents[3] / "docs/curricula.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```yaml[^\n]*\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def test_recipe_of_the_page_is_valid(load: Load) -> None:
    """The recipe with a title is whole, and valid."""
    located = load(BLOCKS[0])
    assert located.recipe.stages[0].curriculum is not None


def test_sections_of_the_page_are_valid(load: Load, minimal: str) -> None:
    """The other blocks are sections, valid in a small recipe."""
    assert len(BLOCKS) == 3
    for block in BLOCKS[1:]:
        sections = yaml.safe_load(block)
        sets = [f"{key}.{name}={value}" for key in ("data", "train") for name, value in sections.get(key, {}).items()]
        located = load(minimal, *sets, f"curriculum={sections['curriculum']}")
        assert located.recipe.stages[0].curriculum is not None
