"""A trainable bias of the output layer, for models whose architecture has none."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import nn

from ctxkit.errors import CtxkitError, ExitCode

LM_HEAD_BIAS = "lm_head_bias"
"""The module that holds the bias, by which peft trains, saves, loads and merges it like any of `modules_to_save`."""

M = TypeVar("M", bound=nn.Module)


class Bias(nn.Module):
    """A number added to each logit; a module of its own, because peft hands on whole modules."""

    def __init__(self, size: int, device: torch.device) -> None:
        """Begin with zeros, so that nothing changes, in float32, which keeps small updates."""
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(size, dtype=torch.float32, device=device))

    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        """Return the logits with the bias, in their type."""
        return logits + self.bias.to(logits.dtype)


class BiasedHead(nn.Module):
    """An output layer with a bias, its weight that of the layer it replaces and so tied to whatever that is tied to.

    No `nn.Linear`, so that peft's `all-linear` leaves it alone, as it does output layers. TRL's fused loss does not
    call the output layer but reads `weight` and `bias` of it.
    """

    def __init__(self, head: nn.Linear, size: int) -> None:
        """Take the place of an output layer of so many tokens."""
        super().__init__()
        self.weight = head.weight
        self.lm_head_bias: Any = Bias(size, head.weight.device)

    @property
    def bias(self) -> torch.Tensor:
        """The bias in the type of the weight, shape (tokens,); its gradient reaches the one that is trained."""
        bias: torch.Tensor = self.lm_head_bias.bias
        return bias.to(self.weight.dtype)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return the logits, shape (..., tokens)."""
        logits: torch.Tensor = self.lm_head_bias(nn.functional.linear(hidden, self.weight))
        return logits


def with_head_bias(model: M) -> M:
    """Give a model a bias of its output layer, all zeros, in place.

    Raises:
        CtxkitError: with exit code 2, if its output layer has one, or is no plain linear layer.
    """
    made: Any = model
    head = made.get_output_embeddings()
    biased = getattr(head, "bias", None) is not None
    if biased or type(head) is not nn.Linear:
        own = "has a bias of its own" if biased else f"is a {type(head).__name__}"
        said = f"the output layer of {type(model).__name__} {own}, so it cannot be given one"
        raise CtxkitError(said, "leave model.lm_head_bias out", exit_code=ExitCode.RECIPE)
    made.set_output_embeddings(BiasedHead(head, head.weight.shape[0] or made.config.get_text_config().vocab_size))
    return model
