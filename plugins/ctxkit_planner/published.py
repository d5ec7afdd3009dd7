"""Shapes of published models, for where `config.json` is gated or cannot be reached."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


def published_config(name: str) -> Mapping[str, Any] | None:
    """Return what of a model's config decides on its size, or None where it is not in the list."""
    return _models().get(name.lower())


@functools.cache
def _models() -> Mapping[str, Mapping[str, Any]]:
    listed = json.loads(Path(__file__).with_name("published.json").read_text(encoding="utf-8"))["models"]
    return {name.lower(): MappingProxyType(model["config"]) for model in listed for name in model["names"]}
