"""What is installed, what is missing, and what is in the way."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from ctxkit import __version__
from ctxkit.host import Host
from ctxkit.provenance import OPTIONAL, STACK, versions
from ctxkit.registry import collect

DISTRIBUTION = "ctxkit-longcontext"
FOREIGN = "ctxkit"


def examine() -> dict[str, Any]:
    """Return versions, what is missing or foreign, and the state of plugins; imports none of the training stack."""
    host = Host()
    return {
        "ctxkit": __version__,
        "from": str(Path(__file__).parent),
        "python": sys.version.split()[0],
        "versions": versions(STACK),
        "optional": versions(OPTIONAL),
        "devices": _devices(),
        "disk_free_bytes": shutil.disk_usage(Path.cwd()).free,
        "environment": {name: os.environ[name] for name in _SHOWN if name in os.environ},
        "plugins": [plugin.name for plugin in host.plugins if not (plugin.fault or plugin.disabled)],
        "problems": [*foreign(), *_unmet(), *collect(host).faults],
    }


def render(findings: dict[str, Any]) -> str:
    """Return the findings for a terminal."""
    lines = [f"ctxkit {findings['ctxkit']} in {findings['from']}, Python {findings['python']}", ""]
    for name, version in findings["versions"].items():
        lines.append(f"  {name:<14} {version or 'MISSING'}")
    for name, version in findings["optional"].items():
        lines.append(f"  {name:<14} {version or 'not installed; an extra: pip install -e .[gpu]'}")
    lines += ["", f"  devices        {findings['devices']}"]
    lines.append(f"  disk free      {findings['disk_free_bytes'] / 1e9:.1f} GB here")
    lines.append(f"  plugins        {', '.join(findings['plugins'])}")
    lines += [f"  {name}={value}" for name, value in findings["environment"].items()]
    problems = findings["problems"]
    lines += [
        "",
        "nothing is in the way" if not problems else "to be mended:",
        *(f"  - {problem}" for problem in problems),
    ]
    return "\n".join(lines)


_SHOWN = ("CUDA_VISIBLE_DEVICES", "HF_HOME", "HF_HUB_OFFLINE", "CTXKIT_DISABLE_PLUGINS")


def foreign() -> list[str]:
    """Name a distribution called `ctxkit`: somebody else's tool that installs the same package and command."""
    try:
        foreign = importlib.metadata.distribution(FOREIGN)
    except importlib.metadata.PackageNotFoundError:
        return []
    return [
        (
            f"the distribution `{FOREIGN}` {foreign.version} is another project with the same import name and command; "
            f"`pip uninstall {FOREIGN}`, then install {DISTRIBUTION} again"
        )
    ]


def _unmet() -> list[str]:
    """Name every requirement of ours that is missing or outside its range."""
    try:
        required = importlib.metadata.requires(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        return [f"{DISTRIBUTION} is not installed here, so no plugin is found; run `pip install -e .` in the checkout"]
    problems = []
    for requirement in map(Requirement, required):
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        installed = versions([requirement.name])[requirement.name]
        if not installed:
            problems.append(f"{requirement.name} is missing; ctxkit needs {requirement}")
        elif not requirement.specifier.contains(installed, prereleases=True):
            problems.append(f"{requirement.name} {installed} is outside {requirement.specifier}")
    return problems


def _devices() -> str:
    """Return what the NVIDIA driver says of its GPUs; asking torch would cost seconds."""
    import subprocess

    query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        found = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return f"no NVIDIA GPU; {os.cpu_count()} CPU cores"
    return "; ".join(found.splitlines())
