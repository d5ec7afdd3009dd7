"""The micro recipe in a file, and ways to run it in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ctxkit.errors import ExitCode
from tests.integration.forking import Server, server
from tests.integration.micro import DATA, HEAD, RECIPE

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


@pytest.fixture(scope="session")
def forks() -> Iterator[Server]:
    """As `processes`, with the shims by which accelerate and DeepSpeed take gloo processes for those of GPUs."""
    with server("tests.integration.shims") as found:
        yield found


@pytest.fixture(scope="session")
def start(forks: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with weights that every layout starts from: ZeRO-3 draws those of a fresh model in another order."""
    folder = tmp_path_factory.mktemp("start")
    (folder / "start.yaml").write_text(HEAD + "  max_steps: 0\n" + DATA, encoding="utf-8")
    forks.start(folder / "start.yaml", folder / "run")
    assert forks.ended() == [ExitCode.DONE]
    return folder / "run/stages/micro/model"


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
