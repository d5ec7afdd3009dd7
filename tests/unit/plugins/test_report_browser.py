"""The pages in a browser: their scripts run under their own policy, every figure is drawn, hostile names are text."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from ctxkit.spec import Sample
from ctxkit_report.compare_page import write_comparison
from ctxkit_report.page import write_report
from ctxkit_report.sweep_page import write_page
from tests.unit.plugins.report_runs import STAGES, answered, passkey, put_report, put_run

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
BAD = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"


def opened(page: Path, profile: Path) -> tuple[str, list[str]]:
    """Return the document after its scripts have run, and what the console says."""
    command = [str(CHROMIUM), "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"]
    command += ["--disable-background-networking", "--disable-component-update", f"--user-data-dir={profile}"]
    command += ["--enable-logging=stderr", "--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=100)
    return done.stdout, [line for line in done.stderr.splitlines() if ":CONSOLE" in line]


def check(page: Path, profile: Path) -> None:
    """Insist that every figure is drawn, nothing is said on the console, and no element came from a name."""
    dom, console = opened(page, profile)
    places = re.findall(r'<div class="plot[^"]*" id="figure-\d+"', dom)
    assert places
    assert dom.count('<svg class="main-svg"') >= len(places)
    assert all("js-plotly-plot" in place for place in places)
    assert console == []
    assert "<img" not in dom
    assert len(re.findall(r"<script[ >]", dom)) <= 4


def hostile(folder: Path) -> Path:
    """Write a run that is still going, whose every name is markup."""
    stages = [{**stage, "name": f"{stage['name']}{BAD}"} for stage in STAGES]
    for stage in stages[1:]:
        stage["from"] = stages[0]["name"]
    put_run(folder, name=BAD, status="running", stages=stages, result=stages[2]["name"], command=BAD)
    (folder / "recipe.yaml").write_text(f"name: '{BAD}'\n")
    lines = [
        json.dumps({"stage": stage["name"], "step": step, "loss": 5 / step}) for stage in stages for step in (1, 2)
    ]
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    texts = {"input": BAD, "target": BAD, "output": BAD}
    samples: list[Sample] = [*answered(128, "11", **texts), *answered(512, "01", **texts)]
    for place, stage in enumerate(stages):
        report = passkey(*samples, failures={BAD: BAD})
        put_report(folder, "x", report, place)
        # A folder cannot be called so: the name of the stage is what lies under `evals`.
        (folder / "evals" / "x").rename(folder / "evals" / str(stage["name"]).replace("/", "\N{DIVISION SLASH}"))
    return folder


def test_every_page_is_drawn(tmp_path: Path) -> None:
    """The report, a comparison and a sweep; under the policy of the page, which a violation would tell the console."""
    profile = tmp_path / "profile"
    run_dir = put_run(tmp_path / "run")
    for stage in ("base", "control", "yarn"):
        put_report(run_dir, stage, passkey(*answered(128, "11"), *answered(512, "01")))
    other = put_run(tmp_path / "other", name="other")
    put_report(other, "yarn", passkey(*answered(128, "10"), *answered(512, "11")))
    check(write_report(run_dir), profile)
    write_comparison((run_dir, other), tmp_path / "compare.html")
    check(tmp_path / "compare.html", profile)
    results = [
        {"values": {"rate": rate}, "task": BAD, "metric": "loss", "length": 64, "mean": rate}
        | {"low": 0.1, "high": 9.0, "interval": "", "runs": 3}
        for rate in (1, 2)
    ]
    (tmp_path / "sweep.json").write_text(json.dumps({"points": [], "results": results}))
    write_page(tmp_path)
    check(tmp_path / "sweep.html", profile)


def test_hostile_names_stay_text_in_a_browser(tmp_path: Path) -> None:
    """In stages, samples, failures, recipe and command, on a page that loads itself again."""
    check(write_report(hostile(tmp_path / "run")), tmp_path / "profile")
