"""What the hooks are handed: one frozen dataclass an event; later versions only add fields."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctxkit.spec.reports import EvalReport

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
    from trl import SFTConfig


@dataclass(frozen=True)
class ModelRequest:
    """A stage needs its model."""

    stage: str
    config: PreTrainedConfig
    """RoPE already scaled; the answer must be built from it."""
    weights: str | None
    """Folder or hub name to load weights from; None for random weights."""
    load: Mapping[str, Any]
    """Keyword arguments of `from_pretrained`: dtype, attn_implementation, revision."""


@dataclass(frozen=True)
class TrainerRequest:
    """A stage needs its trainer."""

    stage: str
    model: PreTrainedModel
    args: SFTConfig
    train_dataset: Dataset
    tokenizer: PreTrainedTokenizerBase
    callbacks: tuple[Any, ...]
    eval_dataset: Dataset | None = None
    """Rows of the documents that `data.eval` sets aside."""
    learning_rate: Callable[[int], float] | None = None
    """What a curriculum multiplies the learning rate by, for each optimizer step from 0; it also decides on the order
    of the rows, which is that of `train_dataset`."""


@dataclass(frozen=True)
class RunStarted:
    """A run begins or continues; nothing heavy has happened yet."""

    run_dir: Path
    recipe: Mapping[str, Any]
    """The resolved recipe as plain values; a copy, so a change has no effect."""


@dataclass(frozen=True)
class StageFinished:
    """A stage is trained, saved and evaluated."""

    run_dir: Path
    stage: str
    model_dir: Path
    evals: tuple[EvalReport, ...]


@dataclass(frozen=True)
class RunFinished:
    """Every stage is finished; the reports come next."""

    run_dir: Path
    model_dir: Path
    """The model of the result stage."""
