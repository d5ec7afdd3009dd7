"""The figures of a page, and the scripts that draw them: all within the page, and no other script may run in it."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from ctxkit_report.plots import draw

if TYPE_CHECKING:
    from ctxkit_report.figures import Chart
    from ctxkit_report.plots import Figure


@dataclass(frozen=True)
class Shown:
    """A figure with the name of its place in the page."""

    id: str
    figure: Figure


class Gallery:
    """Collects the figures of one page."""

    def __init__(self) -> None:
        """Begin with none."""
        self._shown: list[Shown] = []

    def add(self, chart: Chart) -> Shown:
        """Draw a chart and keep it."""
        shown = Shown(f"figure-{len(self._shown) + 1}", draw(chart))
        self._shown.append(shown)
        return shown

    def parts(self, *, live: bool = False) -> dict[str, Any]:
        """Return what the template of the head and the foot of a page needs; a live page loads itself again."""
        scripts = [*([plotly(), script("figures.js")] if self._shown else []), *([script("live.js")] if live else [])]
        return {
            "policy": policy(scripts),
            "scripts": scripts,
            "specs": embedded({shown.id: shown.figure.spec for shown in self._shown}),
        }


@cache
def plotly() -> str:
    """Return plotly.js, some 5 MB of it."""
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())


def script(name: str) -> str:
    """Return a script of this package."""
    return files("ctxkit_report").joinpath("templates", name).read_text(encoding="utf-8")


def policy(scripts: list[str]) -> str:
    """Return a Content-Security-Policy under which these scripts run, no other does, and nothing is fetched."""
    hashes = " ".join(f"'sha256-{_digest(text)}'" for text in scripts) or "'none'"
    return f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:"


def embedded(value: object) -> str:
    """Return JSON that cannot end the element that holds it, whatever its texts say."""
    text = json.dumps(value, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
