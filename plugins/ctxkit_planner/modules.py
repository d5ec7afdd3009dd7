"""The modules of a model that hold parameters, under the names that peft and transformers know them by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ctxkit_planner.shape import Shape


@dataclass(frozen=True)
class Module:
    """One module with parameters of its own: its dotted path, and the elements of its weight and of its bias."""

    path: str
    weight: int
    bias: int = 0
    inputs: int = 0
    """Elements that a linear layer reads, or words of an embedding; 0 for what no adapter can be put beside."""
    outputs: int = 0
    is_linear: bool = False
    """Whether it is a `torch.nn.Linear`, which quantization and `all-linear` look for."""
    copies: int = 0
    """Experts that lie in it; it is a parameter and no layer of its own. 0 for a layer."""

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition(".")[2]

    @property
    def parameters(self) -> int:
        """Elements of weight and bias."""
        return self.weight + self.bias


def linear(path: str, inputs: int, outputs: int, *, bias: bool = False) -> Module:
    """Return a `torch.nn.Linear`."""
    return Module(path, inputs * outputs, outputs if bias else 0, inputs, outputs, is_linear=True)


def modules(shape: Shape) -> list[Module]:
    """Return every module of the model that holds parameters; a tied output layer is none."""
    family = shape.family
    found = [_embedding(shape)]
    for layer in range(shape.layers):
        found += layer_modules(shape, layer)
    if family.final_norm:
        found.append(_norm(shape, f"{family.backbone}.{family.final_norm}"))
    return found if shape.tied else [*found, linear("lm_head", shape.hidden_size, shape.vocab_size)]


def layer_modules(shape: Shape, layer: int) -> Iterator[Module]:
    """Yield the modules of one layer, by their full paths."""
    prefix = f"{shape.family.backbone}.layers.{layer}."
    yield from _attention(shape, prefix)
    sparse = shape.experts and layer not in shape.dense_layers
    yield from _experts(shape, prefix) if sparse else _feed_forward(shape, prefix, shape.intermediate_size)
    for name in shape.family.layer_norms:
        yield _norm(shape, prefix + name)


def _embedding(shape: Shape) -> Module:
    path = f"{shape.family.backbone}.{shape.family.embedding}"
    return Module(path, shape.vocab_size * shape.hidden_size, 0, shape.vocab_size, shape.hidden_size)


def _norm(shape: Shape, path: str) -> Module:
    return Module(path, shape.hidden_size, shape.hidden_size if shape.family.norm_bias else 0)


def _attention(shape: Shape, prefix: str) -> Iterator[Module]:
    family, sizes = shape.family, (shape.query_size, shape.kv_size, shape.kv_size)
    outputs = sizes if len(family.qkv) > 1 else (sum(sizes),)
    for name, size in zip(family.qkv, outputs, strict=True):
        yield linear(prefix + name, shape.hidden_size, size, bias=shape.attention_bias)
    yield linear(prefix + family.output, shape.query_size, shape.hidden_size, bias=shape.output_bias)
    if family.qk_norm != "none":
        whole = family.qk_norm == "full"
        yield Module(f"{prefix}self_attn.q_norm", shape.query_size if whole else shape.head_dim)
        yield Module(f"{prefix}self_attn.k_norm", shape.kv_size if whole else shape.head_dim)


def _feed_forward(shape: Shape, prefix: str, inner: int) -> Iterator[Module]:
    family = shape.family
    width = inner * (2 if shape.gated and len(family.mlp_in) == 1 else 1)
    for name in family.mlp_in:
        yield linear(prefix + name, shape.hidden_size, width, bias=shape.mlp_bias)
    yield linear(prefix + family.mlp_out, inner, shape.hidden_size, bias=shape.mlp_bias)


def _experts(shape: Shape, prefix: str) -> Iterator[Module]:
    """Yield router, experts (one parameter for each direction, no linear layers) and the shared expert."""
    hidden, inner, shared = shape.hidden_size, shape.expert_intermediate_size, shape.shared_intermediate_size
    yield _stacked(f"{prefix}mlp.gate", 1, hidden, shape.experts)
    yield _stacked(f"{prefix}mlp.experts.gate_up_proj", shape.experts, hidden, 2 * inner)
    yield _stacked(f"{prefix}mlp.experts.down_proj", shape.experts, inner, hidden)
    if shared:
        for name in ("gate_proj", "up_proj"):
            yield linear(f"{prefix}mlp.shared_expert.{name}", hidden, shared)
        yield linear(f"{prefix}mlp.shared_expert.down_proj", shared, hidden)
        yield linear(f"{prefix}mlp.shared_expert_gate", hidden, 1)


def _stacked(path: str, copies: int, inputs: int, outputs: int) -> Module:
    return Module(path, copies * inputs * outputs, 0, inputs, outputs, copies=copies)
