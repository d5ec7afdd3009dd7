"""The benchmark that kills runs, in a small form: no mismatch, and one that there is would be seen."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.torch, pytest.mark.slow]

SCRIPT = Path(__file__).parents[2] / "benchmarks/chaos.py"


def test_killed_runs_end_as_if_nothing_had_happened() -> None:
    """Three kills at moments drawn by the seed, then the same weights, losses, evals and ledgers to the last bit."""
    line = [sys.executable, str(SCRIPT), "--variants", "plain:3", "--round", "3", "--seed", "3"]
    done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    row = next(line for line in done.stdout.splitlines() if line.startswith("| plain |"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert (cells[1], cells[-1]) == ("3", "0")
    assert all(what in cells[-2] for what in ("tensors", "losses", "evals", "ledgers"))
