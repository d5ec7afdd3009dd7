"""The folder of a trained adapter as it lies on the disk: whether it is whole, and which weights it belongs beside."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig
from peft.utils import CONFIG_NAME, SAFETENSORS_WEIGHTS_NAME, WEIGHTS_NAME
from safetensors import safe_open
from transformers import AutoConfig, PreTrainedConfig

from ctxkit.errors import CtxkitError, ExitCode
from ctxkit.identity import ADAPTER_BESIDE
from ctxkit.rundir import read_json, write_json

MODEL_CONFIG = "config.json"
"""The config of the model that the adapter was trained around, as ctxkit writes it: an adapter carries no RoPE."""
_WITH = " with the adapter of "
_LONGEST = 200
"""Characters of what a library said that are shown."""


@dataclass(frozen=True)
class SavedAdapter:
    """What the files of a trained adapter say."""

    config: PeftConfig
    model: PreTrainedConfig | None
    """The config of the model it was trained around, where that lies beside it."""
    merged: bool
    """Whether it belongs around weights that other adapters were merged into."""

    @property
    def beside(self) -> str:
        """The name of the weights that it was trained around; empty where nobody wrote it down."""
        return str(self.config.base_model_name_or_path or "")


def read_adapter(folder: Path, name: str) -> SavedAdapter:
    """Return what the files of an adapter say, each of them read.

    Args:
        folder: Where it lies.
        name: By which the person knows it.

    Raises:
        CtxkitError: with exit code 2, if a file is missing or cannot be read.
    """
    config: PeftConfig = _read(name, folder / CONFIG_NAME, lambda _: PeftConfig.from_pretrained(str(folder)))
    if config.peft_type is None:
        raise _damaged(name, f"{CONFIG_NAME} names no peft_type")
    _check_weights(name, folder)
    model = None
    if (folder / MODEL_CONFIG).is_file():
        model = _read(name, folder / MODEL_CONFIG, _model_config)
    words = _WITH in str(config.base_model_name_or_path)
    return SavedAdapter(config, model, words or bool(read_json(folder / ADAPTER_BESIDE).get("merged")))


def write_beside(folder: Path, weights: str, merged: Sequence[str]) -> None:
    """Write down that an adapter belongs around weights with other adapters merged into them.

    The name of the weights, by which peft would load them without those, becomes one that says so and that nobody can
    load; a file of our own says it to us.

    Args:
        folder: Of the adapter.
        weights: The name of the weights before anything was merged.
        merged: The stages whose adapters were merged, in order.
    """
    written = read_json(folder / CONFIG_NAME)
    beside = f"{weights}{_WITH}{', then of '.join(merged)} merged"
    write_json(folder / CONFIG_NAME, {**written, "base_model_name_or_path": beside})
    write_json(folder / ADAPTER_BESIDE, {"base_model_name_or_path": weights, "merged": list(merged)})


def _model_config(file: Path) -> PreTrainedConfig:
    config: PreTrainedConfig = AutoConfig.from_pretrained(file.parent, trust_remote_code=False)
    return config


def _check_weights(name: str, folder: Path) -> None:
    """Read the weights as peft would: those of safetensors first."""
    for file, read in _WEIGHTS.items():
        if (folder / file).is_file():
            _read(name, folder / file, read)
            return
    raise _damaged(name, f"it has neither {' nor '.join(_WEIGHTS)}")


def _header(file: Path) -> None:
    """Read where each tensor lies, which safetensors compares with the size of the file."""
    with safe_open(file, framework="pt") as tensors:
        tensors.keys()


def _pickled(file: Path) -> None:
    torch.load(file, map_location="cpu", weights_only=True)


_WEIGHTS: dict[str, Callable[[Path], None]] = {SAFETENSORS_WEIGHTS_NAME: _header, WEIGHTS_NAME: _pickled}


def _read(name: str, file: Path, read: Callable[[Path], Any]) -> Any:
    try:
        return read(file)
    except Exception as error:
        said = " ".join(f"{type(error).__name__}: {error}".split())[:_LONGEST]
        raise _damaged(name, f"{file.name} cannot be read: {said}") from error


def _damaged(name: str, reason: str) -> CtxkitError:
    said = f"the adapter {name} is damaged: {reason}"
    return CtxkitError(said, "copy or save it again, or name another one", exit_code=ExitCode.RECIPE)
