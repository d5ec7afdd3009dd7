"""How many parameters a stage trains, of how many."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from peft import PeftModel


@dataclass(frozen=True)
class Parameters:
    """Counts of single numbers; one that several modules share is counted once."""

    trainable: int
    total: int

    def __str__(self) -> str:
        return f"{self.trainable:,} of {self.total:,} parameters ({self.trainable / max(self.total, 1):.4%})"


def count_parameters(model: Any) -> Parameters:
    """Return the parameters of a model, with those of an adapter, whether quantized, sharded by ZeRO-3 or neither.

    By peft's own count (`PeftModel.get_nb_trainable_parameters`), which knows packed four-bit weights.
    """
    return Parameters(*PeftModel.get_nb_trainable_parameters(model))
