"""The micro recipe in a file, and ways to run it in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.forking import Server, server
from tests.integration.micro import RECIPE

ROOT = Path(__file__).parents[2]


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A recipe of three stages on 30,000 parameters."""
    path = tmp_path / "micro.yaml"
    path.write_text(RECIPE, encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def processes() -> Iterator[Server]:
    """What starts runs, and lines that a person types, in processes of their own: all forked from one that is warm."""
    with server() as found:
        yield found


@pytest.fixture
def command(recipe: Path, tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Start `ctxkit run` on the recipe in a process of its own, with more arguments and another launcher if wanted."""

    def start(
        *arguments: str, launcher: tuple[str, ...] = (sys.executable, "-m", "ctxkit"), cwd: Path = ROOT, **env: str
    ):
        line = [*launcher, "run", str(recipe), "--run-dir", str(tmp_path / "run"), *arguments]
        return subprocess.Popen(
            line, cwd=cwd, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, **env}
        )

    return start
