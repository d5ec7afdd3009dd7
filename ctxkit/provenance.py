"""What a run was made with: versions, commit, command, and the source of every component it used."""

from __future__ import annotations

import hashlib
import importlib.metadata
import inspect
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctxkit import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ctxkit.spec import Component

STACK = ("torch", "transformers", "trl", "accelerate", "datasets", "tokenizers", "safetensors", "numpy")
OPTIONAL = ("peft", "deepspeed", "bitsandbytes", "liger-kernel")


def versions(names: Iterable[str]) -> dict[str, str]:
    """Return the installed version of each distribution, an empty string for a missing one."""
    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = ""
    return found


def provenance(plugins: dict[str, str], command: list[str]) -> dict[str, Any]:
    """Return what to write into `provenance.json`; holds no environment variable and no secret."""
    return {
        "ctxkit": __version__,
        "commit": _commit(),
        "command": command,
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu_count": os.cpu_count(),
        "versions": {name: version for name, version in versions((*STACK, *OPTIONAL)).items() if version},
        "plugins": plugins,
    }


def source_hash(cls: type[Component]) -> str:
    """Return the hash of all Python files of the top package, or of the one file, that an options class comes from."""
    parts = cls.__module__.split(".")
    names = (".".join(parts[:count]) for count in range(1, len(parts) + 1))
    # A namespace package has no file; several distributions may share it.
    top = next(module for name in names if getattr(module := sys.modules[name], "__file__", None))
    file = Path(inspect.getfile(top))
    files = sorted(file.parent.rglob("*.py")) if hasattr(top, "__path__") else [file]
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.relative_to(file.parent).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def _commit() -> str:
    """Return the commit of the checkout that ctxkit runs from, with `+changes` for a dirty one; empty outside one."""
    root = Path(__file__).parent.parent
    if not (root / ".git").exists():
        return ""
    try:
        commit = _git(root, "rev-parse", "HEAD")
        return commit + ("+changes" if _git(root, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return ""


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), "-c", "core.fsmonitor=false", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
