"""The MLP of every layer over tiles of tokens.

An MLP sees each token by itself, so that it may see them in turn. Each tile is a checkpoint of its own: its inner
activations, which are several times as wide as the model, exist for one tile at a time, in the forward pass and when
they are computed once more in the backward pass. This is the sequence tiling of Arctic Long Sequence Training
(arXiv:2506.13996), written as checkpoints within one graph: each weight gets its gradient once a step, as DDP and FSDP
expect, and the random state of dropout is kept.
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from ctxkit.errors import CtxkitError, ExitCode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor, nn
    from transformers import PreTrainedModel


def tile_mlps(model: PreTrainedModel, tile: int) -> None:
    """Have the MLP of every layer computed over tiles of tokens.

    Args:
        model: Its layers are the modules that transformers calls indivisible, and an MLP is a direct part of a layer
            whose class says so, such as `LlamaMLP`.
        tile: The most tokens of a tile.

    Raises:
        CtxkitError: with exit code 2, the layers have no such MLP, as with experts, or it has tiles already.
    """
    mlps = list(_mlps(model))
    if hasattr(mlps[0], "mlp_tile_tokens"):
        raise CtxkitError("the patch tiled_mlp is stated twice", "keep one of `patches`", exit_code=ExitCode.RECIPE)
    classes = {cls: _tiled(cls) for cls in map(type, mlps)}
    for mlp in mlps:
        # The class, and not the instance: a copy of the module then computes with its own weights, and a library that
        # gives the instance another `forward` still has it called for each tile.
        mlp.__class__ = classes[type(mlp)]
        mlp.mlp_tile_tokens = tile  # type: ignore[assignment]


def _mlps(model: PreTrainedModel) -> Iterator[nn.Module]:
    names = set(model._no_split_modules or ())  # noqa: SLF001 - where transformers says what a layer is
    layers = [module for module in model.modules() if type(module).__name__ in names]
    if not layers:
        raise _unknown(model, "transformers does not say what its layers are")
    for layer in layers:
        found = [part for part in layer.children() if type(part).__name__.endswith("MLP")]
        if len(found) != 1:
            parts = ", ".join(f"{name} ({type(part).__name__})" for name, part in layer.named_children())
            raise _unknown(model, f"a {type(layer).__name__} has {len(found) or 'no'} MLP among {parts}")
        yield found[0]


def _unknown(model: PreTrainedModel, why: str) -> CtxkitError:
    said = f"the patch tiled_mlp does not know the layers of {type(model).__name__}: {why}"
    return CtxkitError(said, "leave it out of `patches`", exit_code=ExitCode.RECIPE)


def _tiled(cls: type[nn.Module]) -> type[nn.Module]:
    """Return a class of MLPs that compute in tiles what `cls` computes."""
    call: Any = cls.__call__

    def in_tiles(self: Any, hidden_states: Tensor) -> Tensor:
        return over_tiles(partial(call, self), hidden_states, _count(self, hidden_states))

    return type(f"Tiled{cls.__name__}", (cls,), {"__call__": in_tiles, "__module__": cls.__module__})


def _count(mlp: Any, hidden_states: Tensor) -> int:
    """Return the number of tiles, the same in all processes where each of them gathers the weights for every tile."""
    count: int = -(-hidden_states.shape[:-1].numel() // mlp.mlp_tile_tokens)
    if not any(hasattr(parameter, "ds_id") for parameter in mlp.parameters()):
        return count
    import torch

    agreed = torch.tensor(count, device=hidden_states.device)
    torch.distributed.all_reduce(agreed, op=torch.distributed.ReduceOp.MAX)
    return int(agreed.item())


def over_tiles(compute: Callable[[Tensor], Tensor], hidden_states: Tensor, count: int) -> Tensor:
    """Return what a function that sees each token by itself makes of hidden states, computed over tiles of tokens.

    Args:
        compute: Of hidden states, shape (1, tokens of a tile, width).
        hidden_states: Shape (rows, tokens, width).
        count: Tiles, of nearly the same size.
    """
    import torch
    from torch.utils.checkpoint import checkpoint

    if count <= 1:
        return compute(hidden_states)
    flat = hidden_states.reshape(1, -1, hidden_states.shape[-1])
    tokens = flat.shape[1]
    ends = [tokens * number // count for number in range(count + 1)]
    # One node for all of them: that of a slice would make a gradient as long as the row for each tile.
    tiles = flat.split([end - start for start, end in pairwise(ends)], dim=1)
    made: list[Tensor] = [
        checkpoint(compute, tile, use_reentrant=False) if torch.is_grad_enabled() else compute(tile) for tile in tiles
    ]
    return torch.cat(made, dim=1).view(*hidden_states.shape[:-1], -1)
