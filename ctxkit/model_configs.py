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
    """Fetch one file from the hub, asking once; every reason why it cannot be is one line.

    `hf_hub_download` would ask six times over half a minute where there is no network.
    """
    from huggingface_hub import hf_hub_url
    from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

    try:
        url = hf_hub_url(name, FILE, revision=revision)
        answer = get_session().get(url, headers=build_hf_headers(), timeout=PATIENCE_SECONDS, follow_redirects=True)
        hf_raise_for_status(answer)
        return _parsed(answer.text, f"{name}, {FILE} on the hub")
    except Exception as error:  # noqa: BLE001 - no network, no token, no such model: the plan may do without
        return FoundConfig(None, _why(error))


def _why(error: Exception) -> str:
    said = {
        "GatedRepoError": "its licence must be accepted on the hub first",
        "RepositoryNotFoundError": "the hub has no such model, or it is not public",
        "RevisionNotFoundError": "the hub has no such revision",
        "EntryNotFoundError": f"it has no {FILE} on the hub",
        "OfflineModeIsEnabled": "HF_HUB_OFFLINE is set, and it is not in the cache",
    }
    name = type(error).__name__
    return said.get(name) or f"the hub cannot be reached ({name}), and it is not in the cache"


def _read(path: Path, source: str) -> FoundConfig:
    try:
        return _parsed(path.read_text(encoding="utf-8"), source)
    except FileNotFoundError:
        return FoundConfig(None, f"there is no {path}")
    except UnicodeDecodeError:
        return FoundConfig(None, f"{source} cannot be read: it is no text in UTF-8")
    except OSError as error:
        return FoundConfig(None, f"{path} cannot be read: {type(error).__name__}")


def _parsed(text: str, source: str) -> FoundConfig:
    try:
        values = json.loads(text)
    except ValueError:
        return FoundConfig(None, f"{source} cannot be read: it is no JSON")
    return FoundConfig(values, source) if isinstance(values, dict) else FoundConfig(None, f"{source} holds no mapping")
