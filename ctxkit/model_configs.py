"""The config of a model, read without the training libraries and without weights."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ctxkit.recipe import ModelSection, TokenizerSection

PATIENCE_SECONDS = 5
"""How long the hub may take to answer."""
FILE = "config.json"


@dataclass(frozen=True)
class FoundConfig:
    """Fields of a model's config, or None with the reason."""

    values: Mapping[str, Any] | None
    source: str
    """Where they stand, in words; or why they were not found."""


def find_config(model: ModelSection, tokenizer: TokenizerSection, *, network: bool) -> FoundConfig:
    """Return the config of the model that a recipe starts with, the fields of the recipe laid over it.

    Looked for in the recipe, a folder, the cache of the hub and, with `network`, on the hub, `config.json` alone;
    `HF_HUB_OFFLINE` is obeyed. Never raises: what stood in the way is the `source`.
    """
    if model.name_or_path is None:
        return FoundConfig(_fresh(model, tokenizer), "model.config of the recipe")
    found = _stored(model.name_or_path, model.revision, network=network)
    if found.values is None or not model.config:
        return found
    return FoundConfig({**found.values, **model.config}, f"{found.source}, with model.config of the recipe over it")


def _fresh(model: ModelSection, tokenizer: TokenizerSection) -> dict[str, Any]:
    """Return the fields of a model that is trained from scratch; its vocabulary is that of its tokenizer."""
    trained = {"vocab_size": tokenizer.train.vocab_size} if tokenizer.train else {}
    return {**trained, **(model.config or {})}


def _stored(name: str, revision: str | None, *, network: bool) -> FoundConfig:
    if Path(name).is_dir():
        return _read(Path(name) / FILE, str(Path(name) / FILE))
    try:
        from huggingface_hub import try_to_load_from_cache
        from huggingface_hub.errors import HFValidationError
    except ImportError:
        return FoundConfig(None, "huggingface_hub is not installed")
    try:
        cached = try_to_load_from_cache(name, FILE, revision=revision)
    except HFValidationError:
        return FoundConfig(None, f"there is no folder {name}")
    if isinstance(cached, str):
        return _read(Path(cached), f"{name}, {FILE} in the cache of the hub")
    return _fetched(name, revision) if network else FoundConfig(None, "it is not in the cache of the hub")


def _fetched(name: str, revision: str | None) -> FoundConfig:
    """Fetch one file from the hub, quietly; every reason why it cannot be is one line."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    quiet = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        path = hf_hub_download(name, FILE, revision=revision, etag_timeout=PATIENCE_SECONDS)
    except Exception as error:  # noqa: BLE001 - no network, no token, no such model: the plan may do without
        return FoundConfig(None, _why(error))
    finally:
        if not quiet:
            enable_progress_bars()
    return _read(Path(path), f"{name}, {FILE} on the hub")


def _why(error: Exception) -> str:
    said = {
        "GatedRepoError": "its licence must be accepted on the hub first",
        "RepositoryNotFoundError": "the hub has no such model, or it is not public",
        "RevisionNotFoundError": "the hub has no such revision",
        "EntryNotFoundError": f"it has no {FILE} on the hub",
        "OfflineModeIsEnabled": "HF_HUB_OFFLINE is set, and it is not in the cache",
        "LocalEntryNotFoundError": "the hub cannot be reached, and it is not in the cache",
    }
    name = type(error).__name__
    return said.get(name) or f"the hub cannot be read: {name}"


def _read(path: Path, source: str) -> FoundConfig:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return FoundConfig(None, f"there is no {path}")
    except (OSError, ValueError) as error:
        return FoundConfig(None, f"{path} cannot be read: {type(error).__name__}")
    return FoundConfig(values, source) if isinstance(values, dict) else FoundConfig(None, f"{path} holds no mapping")
