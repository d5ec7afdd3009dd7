"""What a scaling does to a loaded model without training: its rotary modules made anew, its perplexity measured."""

from __future__ import annotations

import copy
import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedConfig, PreTrainedModel

from ctxkit.errors import CtxkitError, OutOfMemoryError
from ctxkit.spec import Context, RopeScaler
from ctxkit.train.journal import Journal
from ctxkit.train.likelihood import perplexity
from ctxkit.train.memory_errors import out_of_memory
from ctxkit.train.model import refusal
from ctxkit.train.progress import Bar
from ctxkit.train.rope import FIELDS, ExtendedRope, check_rope, rotary_modules


@dataclass
class Measure:
    """The perplexity of documents by scaling; each scaling is measured once, and written to the journal."""

    model: PreTrainedModel
    """Its rotary modules are replaced, its weights stay."""
    base: PreTrainedConfig
    """Its config before any scaling."""
    context: Context
    documents: tuple[NDArray[np.int32], ...]
    """Token ids, each as long as the longest that is measured."""
    journal: Journal
    bar: Bar
    _best: dict[int, float] = field(default_factory=dict)
    """The lowest perplexity by length."""
    _asked: set[str] = field(default_factory=set)

    def __call__(self, scaler: RopeScaler, length: int) -> float:
        """Return the perplexity of the documents, cut to so many tokens, with RoPE scaled so.

        Raises:
            CtxkitError: the model cannot take the scaling, does not rotate as it promises, or fails.
        """
        original = self.context.original_max_position_embeddings
        rope = ExtendedRope(scaler, original, max(original, length), self.base)
        config = copy.deepcopy(self.base)
        rope.apply(config)
        described = _described(config, length)
        key = hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:32]
        if key not in self.journal.known:
            rotate(self.model, config)
            check_rope(self.model, rope)
            self.journal.record(key, self._measured(length), described)
        self._tell(key, length)
        return self.journal.known[key]

    def _measured(self, length: int) -> float:
        try:
            return perplexity(self.model, self.documents, length)
        except (RuntimeError, ValueError, TypeError, AttributeError, IndexError, MemoryError) as error:
            said = f"the model cannot be measured at {length} tokens: {refusal(error)}"
            if out_of_memory(error):
                hint = "model.dtype bfloat16, another model.attn_implementation, or a shorter window; typed again, "
                raise OutOfMemoryError(said, f"{hint}the search goes on behind what it measured") from error
            raise CtxkitError(said) from error

    def _tell(self, key: str, length: int) -> None:
        """Count what is asked for the first time, and show the best of its length."""
        value = self.journal.known[key]
        self._best[length] = min(value, self._best.get(length, value))
        if key not in self._asked:
            self._asked.add(key)
            self.bar.advance(f"best perplexity {self._best[length]:.4f}")


def _described(config: PreTrainedConfig, length: int) -> dict[str, Any]:
    text = config.get_text_config()
    return {"length": length, **{name: getattr(text, name) for name in FIELDS if hasattr(text, name)}}


def rotate(model: PreTrainedModel, config: PreTrainedConfig) -> None:
    """Put rotary modules made from a config in the place of a model's own."""
    for name, module in list(rotary_modules(model)):
        device = next((buffer.device for buffer in module.buffers()), model.device)
        model.set_submodule(name, type(module)(config=config.get_text_config()).to(device))
