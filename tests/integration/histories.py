"""A small git repository: modules that import each other, and a history of every file."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

AUTHOR = {f"GIT_{who}_{what}": "a@b.c" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
MODULES = 8


def git(repository: Path, *arguments: str) -> str:
    """Run git without anybody's configuration, each commit at the same time."""
    time = {"GIT_AUTHOR_DATE": "2020-01-01T00:00:00Z", "GIT_COMMITTER_DATE": "2020-01-01T00:00:00Z"}
    environment = {**os.environ, **AUTHOR, **time, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    line = ["git", "-C", str(repository), *arguments]
    return subprocess.run(line, check=True, capture_output=True, text=True, env=environment).stdout


def module(number: int, version: int) -> str:
    """Return a module that imports the one before it, and has a function more with each version."""
    imports = f"from package.part{number - 1} import start{number - 1}\n\n\n" if number else ""
    bodies = "\n\n".join(
        f"def {'start' if not index else 'more'}{number}{'' if not index else f'_{index}'}(value):\n"
        f'    """Return what part {number} makes of a value, version {index}."""\n'
        f"    total = value + {number * 10 + index}\n    return total * {index + 2}\n"
        for index in range(version + 1)
    )
    return imports + bodies


def small_repository(folder: Path) -> Path:
    """Make a repository of a package, its tests and five versions of each file; return its folder."""
    git(folder, "init", "-q", "-b", "main")
    (folder / "package").mkdir()
    (folder / "tests").mkdir()
    for version in range(5):
        for number in range(MODULES):
            (folder / "package" / f"part{number}.py").write_text(module(number, version))
        (folder / "tests" / "test_all.py").write_text(
            "".join(module(MODULES - 1, version)).replace("def ", "def test_")
        )
        git(folder, "add", ".")
        git(folder, "commit", "-q", "-m", f"Version {version}")
    return folder
