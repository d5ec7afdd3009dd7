"""How far a model can read at all: learned positions end, rotary ones do not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ctxkit.errors import CtxkitError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def learned_positions(model: PreTrainedModel) -> int | None:
    """Return how many positions a model has learned an embedding for; None where it has no such table."""
    import torch

    tables = [
        module.num_embeddings
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Embedding) and _of_positions(name.rpartition(".")[2])
    ]
    if not tables:
        return None
    window = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    # A table may begin with rows for padding.
    return min([*tables, int(window)]) if window else min(tables)


def _of_positions(name: str) -> bool:
    return name == "wpe" or "position" in name


def check_reach(positions: int | None, length: int) -> None:
    """Refuse to read beyond the last learned position: on an accelerator that would end the process, not the cell.

    Raises:
        CtxkitError: the length, in tokens, is beyond it.
    """
    if positions is not None and length > positions:
        raise CtxkitError(
            f"the model has learned {positions} positions, and {length} tokens are to be read",
            "it has no rotary embedding that could go on; measure shorter lengths",
        )
