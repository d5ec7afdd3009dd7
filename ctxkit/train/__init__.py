"""The training floor: the only part of ctxkit that imports torch, transformers, trl and datasets."""

from ctxkit.train.deep import validate_deep
from ctxkit.train.run import run, run_located

__all__ = ["run", "run_located", "validate_deep"]
