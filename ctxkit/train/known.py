"""What the weights that a recipe starts with are known by."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig

from ctxkit.recipe import ModelSection

SAMPLES, SAMPLE_BYTES = 64, 4096
"""Of each file of weights: enough to know them by, since training changes all of them."""
WEIGHTS = ("*.safetensors", "*.bin", "config.json")


def known_by(model: ModelSection, config: PreTrainedConfig) -> dict[str, Any]:
    """Return what a model is known by: a folder by its content, wherever it lies; one of the hub by its commit."""
    folder = Path(str(model.name_or_path))
    known: dict[str, Any] = {"content": _content(folder)}
    if not folder.is_dir():
        commit = getattr(config, "_commit_hash", None)
        known = {"name": model.name_or_path, "revision": model.revision, "commit": commit}
    return {**known, "config": model.config, "quantization_config": model.quantization_config}


def _content(folder: Path) -> str:
    """Return a hash of a sample of the bytes of each file of weights."""
    digest = hashlib.sha256()
    for path in sorted(path for pattern in WEIGHTS for path in folder.glob(pattern)):
        size = path.stat().st_size
        digest.update(f"{path.name}:{size}".encode())
        with path.open("rb") as file:
            for place in range(0, size, max(size // SAMPLES, SAMPLE_BYTES)):
                file.seek(place)
                digest.update(file.read(SAMPLE_BYTES))
    return digest.hexdigest()[:16]
