"""Parameters of a model and of its adapter, exactly as transformers and peft count them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ctxkit.errors import CtxkitError, ExitCode
from ctxkit_planner.modules import Module, layer_modules, modules

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ctxkit_planner.setup import Adapter
    from ctxkit_planner.shape import Shape


@dataclass(frozen=True)
class Parameters:
    """Numbers of elements, not bytes."""

    base: int
    """Of the model without an adapter; an embedding that is tied to the output layer counts once."""
    quantizable: int
    """Of the base: weights of linear layers below the output layer, which bitsandbytes quantizes."""
    adapted: int
    """Of the low-rank matrices, and DoRA's magnitudes."""
    saved: int
    """Of the copies of `modules_to_save`, which are trained whole."""
    trainable: int
    largest_layer: int
    """Of the largest decoder layer, adapter included: what ZeRO-3 and FSDP gather at a time."""
    head: int
    """Of the output layer."""

    @property
    def total(self) -> int:
        """All elements in memory, with the adapter's."""
        return self.base + self.adapted + self.saved


def parameters(shape: Shape, adapter: Adapter | None = None) -> Parameters:
    """Count the parameters of a model, with its adapter or, without one, trained in full."""
    found = modules(shape)
    base = sum(module.parameters for module in found)
    adapted = sum(_low_rank(module, adapter) for module in adapted_modules(shape, adapter)) if adapter else 0
    saved = _saved(shape, found, adapter.modules_to_save) if adapter else 0
    layers = (sum(module.parameters for module in layer_modules(shape, layer)) for layer in _kinds(shape))
    return Parameters(
        base=base,
        quantizable=sum(module.weight for module in found if module.is_linear and module.path != "lm_head"),
        adapted=adapted,
        saved=saved,
        trainable=adapted + saved if adapter else base,
        largest_layer=max(layers) + adapted // shape.layers,
        head=shape.vocab_size * shape.hidden_size,
    )


def adapted_modules(shape: Shape, adapter: Adapter) -> list[Module]:
    """Return the modules that peft puts an adapter beside: those it names, by their ends or as a regular expression."""
    found = [module for module in modules(shape) if module.inputs and not _named(module.path, adapter.exclude_modules)]
    asked = adapter.target_modules or default_targets(shape)
    if shape.experts and shape.family.expert_names:
        return _with_experts(shape, found, asked)
    return [module for module in found if not module.copies and _targeted(module, asked)]


def default_targets(shape: Shape) -> tuple[str, ...]:
    """Return the modules that peft adapts where none are named, the same for almost all of these architectures."""
    qkv = [name.rpartition(".")[2] for name in shape.family.qkv]
    return (qkv[0], qkv[2]) if len(qkv) > 1 else (qkv[0],)


def _with_experts(shape: Shape, found: list[Module], asked: Sequence[str] | str) -> list[Module]:
    """Return what a mixture of experts gets: peft (0.21) reads the names of linear layers as those of the experts.

    It rewrites the router and the three projections to the stacked parameters that transformers 5 made of them, and
    leaves dense layers and shared experts of the same names without an adapter
    (`peft.utils.transformers_weight_conversion`).
    """
    stacked = dict(zip(("gate", *shape.family.expert_names), _STACKED, strict=True))
    names = _leaves(shape, found, asked)
    experts = {stacked[name] for name in names & stacked.keys()}
    layers = names - stacked.keys()
    return [module for module in found if _named(module.path, experts if module.copies else layers)]


_STACKED = ("mlp.gate", "mlp.experts.gate_up_proj", "mlp.experts.gate_up_proj", "mlp.experts.down_proj")


def _leaves(shape: Shape, found: list[Module], asked: Sequence[str] | str) -> set[str]:
    """Return the last names of all that is asked for, since peft forgets in which layer it found them."""
    if not isinstance(asked, str):
        return set(asked)
    leaves = {module.name for module in found if not module.copies and _targeted(module, asked)}
    experts = ("gate", *shape.family.expert_names)
    if asked == "all-linear":
        return leaves | set(experts)
    prefixes = {module.path.rpartition(".")[0] for module in found if module.copies}
    return leaves | {name for name in experts for prefix in prefixes if _matches(asked, f"{prefix}.{name}")}


def _kinds(shape: Shape) -> set[int]:
    """Return one layer of each kind, since the layers of a kind are equal."""
    sparse = next((layer for layer in range(shape.layers) if layer not in shape.dense_layers), 0)
    return {sparse, shape.dense_layers[0] if shape.dense_layers else sparse}


def _targeted(module: Module, asked: Sequence[str] | str) -> bool:
    if asked == "all-linear":
        return module.is_linear and module.path != "lm_head"
    if isinstance(asked, str):
        return _matches(asked, module.path)
    return _named(module.path, asked)


def _matches(asked: str, path: str) -> bool:
    try:
        return re.fullmatch(asked, path) is not None
    except re.error as error:
        message = f"adapter.target_modules: {asked!r} is no regular expression: {error}"
        raise CtxkitError(message, "write a list of names, or `all-linear`", exit_code=ExitCode.RECIPE) from error


def _named(path: str, names: Iterable[str]) -> bool:
    return any(path == name or path.endswith(f".{name}") for name in names)


def _low_rank(module: Module, adapter: Adapter) -> int:
    """Return r rows of the inputs and r columns of the outputs, and with DoRA one magnitude for each output.

    Each expert has its own; gate and up lie in one matrix and have twice the rank.
    """
    if module.copies:
        fused = 2 if module.name == "gate_up_proj" else 1
        return module.copies * fused * adapter.r * (module.inputs + module.outputs)
    return adapter.r * (module.inputs + module.outputs) + (module.outputs if adapter.use_dora else 0)


def _saved(shape: Shape, found: list[Module], names: Sequence[str]) -> int:
    whole = [*found, Module("lm_head", shape.vocab_size * shape.hidden_size)] if shape.tied else found
    # peft compares the end of the whole path: `norm` is every module whose name ends so.
    return sum(module.parameters for module in whole if module.path.endswith(tuple(names)))
