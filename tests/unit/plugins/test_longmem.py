"""The MLP in tiles: the same function, the same gradients, the same weights, and less memory."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint
from transformers import AutoConfig, AutoModelForCausalLM

from ctxkit.errors import CtxkitError, ExitCode
from ctxkit.spec import Context, PatchOptions
from ctxkit.testing import check_patch
from ctxkit_longmem.options import TiledMlpOptions
from ctxkit_longmem.tiled_mlp import over_tiles

pytestmark = pytest.mark.torch
TINY = {"hidden_size": 16, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 60,
        "num_key_value_heads": 2, "max_position_embeddings": 128, "pad_token_id": 0, "bos_token_id": 1,
        "eos_token_id": 2}  # fmt: skip
KINDS = ("llama", "mistral", "qwen2", "qwen3", "phi3", "gemma3_text", "starcoder2")
IDS = torch.arange(74).reshape(2, 37) % 60


def tiny(kind: str = "llama", **more: Any) -> Any:
    """Return a random model of an architecture, the same every time."""
    torch.manual_seed(0)
    heads = {"head_dim": 8} if kind in ("gemma3_text", "qwen3") else {}
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **{**TINY, **heads, **more}))


def patch(tile: int) -> Any:
    """Return the patch with tiles of so many tokens."""
    return TiledMlpOptions(kind="tiled_mlp", tile=tile).build(Context())


@pytest.mark.parametrize("tile", [1, 10, 37])
@pytest.mark.parametrize("kind", KINDS)
def test_same_function(kind: str, tile: int) -> None:
    """Logits, gradients and weights of every architecture stay, whether tiles divide the tokens or not."""
    check_patch(patch(tile), tiny(kind).train(), IDS)


@pytest.mark.parametrize(("kwargs", "said"), [({}, "a OlmoeDecoderLayer has no MLP among self_attn")])
def test_unknown_layers_are_refused(kwargs: dict[str, Any], said: str) -> None:
    """A mixture of experts has no MLP that sees every token; the message names the parts of its layers."""
    with pytest.raises(CtxkitError, match=said) as caught:
        patch(4)(tiny("olmoe", **kwargs))
    assert caught.value.exit_code == ExitCode.RECIPE
    model = tiny()
    model._no_split_modules = None
    with pytest.raises(CtxkitError, match="does not say what its layers are"):
        patch(4)(model)


def test_tiles_in_tiles_are_refused() -> None:
    """The plan counts the smaller tile, and the last one would hold."""
    model = tiny()
    patch(8)(model)
    with pytest.raises(CtxkitError, match="stated twice"):
        patch(16)(model)


def test_what_the_plan_reads() -> None:
    """The tile is told to a planner; a patch that says nothing leaves the MLPs alone."""
    assert TiledMlpOptions(kind="tiled_mlp").mlp_tile_tokens == 4096
    assert PatchOptions(kind="other").mlp_tile_tokens is None


class Widest(nn.Module):
    """An MLP that remembers the most tokens that it saw at a time, and how often it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens: list[int] = []
        self.down = nn.Linear(4, 4)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        self.tokens.append(hidden_states.shape[1])
        return self.down(hidden_states).tanh()


def test_never_more_than_a_tile() -> None:
    """No call sees more tokens than a tile has; each tile is computed twice with a gradient and once without."""
    mlp, hidden = Widest(), torch.randn(2, 11, 4, requires_grad=True)
    over_tiles(mlp, hidden, 4).sum().backward()
    assert sorted(mlp.tokens) == sorted([5, 6, 5, 6] * 2)
    mlp.tokens.clear()
    with torch.no_grad():
        over_tiles(mlp, hidden, 4)
    assert sorted(mlp.tokens) == [5, 5, 6, 6]


def test_a_tile_is_kept_at_most() -> None:
    """What the graph of a row keeps does not grow with the inner width, and what it keeps whole is the row itself."""
    kept: dict[bool, int] = {}
    for tiled in (False, True):
        model = tiny(intermediate_size=400).train()
        if tiled:
            patch(8)(model)
        seen: dict[int, int] = {}

        def pack(tensor: torch.Tensor, seen: dict[int, int] = seen) -> torch.Tensor:
            seen[tensor.untyped_storage().data_ptr()] = tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            mlp = model.model.layers[0].mlp
            out = mlp(torch.randn(2, 37, 16, requires_grad=True))
        kept[tiled] = sum(seen.values()) - 3 * 16 * 400
        out.sum().backward()
    # gate, up, their product and what the activation keeps, 400 wide each, against nothing that is so wide
    assert kept[False] > 3 * 74 * 400
    assert kept[True] <= 2 * 74 * 16


def test_dropout_is_drawn_once() -> None:
    """With dropout inside the MLP the gradient belongs to the very masks of the forward pass."""
    torch.manual_seed(1)
    mlp = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1))
    hidden = torch.randn(1, 12, 4, requires_grad=True)
    out = over_tiles(mlp, hidden, 3)
    torch.rand(5)  # the random state moves on between forward and backward
    out.sum().backward()
    # The gradient of the last bias is the number of tokens; that of the last weights is what reached them forward.
    reached = mlp[2].weight.grad
    assert torch.allclose((mlp[2].weight * reached).sum() + 12 * mlp[2].bias, out.sum(), atol=1e-5)


@pytest.mark.parametrize("outer", [None, False, True], ids=["plain", "checkpointed", "reentrant"])
def test_under_an_adapter_and_checkpoints(outer: bool | None) -> None:
    """Adapters inside the MLP get the gradients that they get without tiles, also where layers are checkpoints."""
    found = []
    for tile in (None, 9):
        model = tiny().train()
        if tile:
            patch(tile)(model)
        torch.manual_seed(2)
        lora = LoraConfig(r=2, target_modules=["up_proj", "down_proj", "q_proj"], init_lora_weights=False)
        model = get_peft_model(model, lora)
        if outer is not None:
            model.enable_input_require_grads()
            model.gradient_checkpointing_enable({"use_reentrant": outer})
        model(input_ids=IDS, labels=IDS, use_cache=False).loss.backward()
        found.append({name: each.grad for name, each in model.named_parameters() if each.grad is not None})
    assert found[0].keys() == found[1].keys()
    assert any("mlp.up_proj.lora_A" in name for name in found[1])
    for name, gradient in found[0].items():
        assert torch.allclose(gradient, found[1][name], atol=1e-6), name


def test_a_copy_computes_with_its_own_weights() -> None:
    """A copy of a patched model does not go back to the weights of the first."""
    model = tiny().eval()
    patch(9)(model)
    twin = copy.deepcopy(model)
    before = twin(IDS).logits
    with torch.no_grad():
        for mlp in (layer.mlp for layer in model.model.layers):
            mlp.up_proj.weight.zero_()
    assert twin(IDS).logits.equal(before)
    assert not model(IDS).logits.equal(before)


def test_another_forward_is_called_for_each_tile() -> None:
    """A library that replaces the `forward` of the instance, as liger does, is asked tile by tile."""
    model = tiny()
    patch(9)(model)
    mlp, seen = model.model.layers[0].mlp, []
    mlp.forward = lambda hidden: seen.append(hidden.shape[1]) or hidden
    mlp(torch.randn(1, 20, 16))
    assert max(seen) <= 9


def test_each_weight_has_its_gradient_once() -> None:
    """DDP counts the gradients of a step: each weight may get one, though there are many tiles."""
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        plain, model = tiny(), tiny()
        patch(9)(model)
        wrapped = DistributedDataParallel(model)
        for one in (plain, wrapped):
            one(input_ids=IDS, labels=IDS, use_cache=False).loss.backward()
    finally:
        torch.distributed.destroy_process_group()
    for (name, ours), theirs in zip(model.named_parameters(), plain.parameters(), strict=True):
        assert torch.allclose(ours.grad, theirs.grad, atol=1e-6), name


def test_equals_a_checkpoint_of_the_whole() -> None:
    """One tile more or less is one rounding more or less: bit for bit where tiles are rows of a matrix product."""
    mlp, hidden = Widest().double(), torch.randn(1, 8, 4, dtype=torch.float64, requires_grad=True)
    whole = checkpoint(mlp, hidden, use_reentrant=False)
    assert torch.allclose(over_tiles(mlp, hidden, 8), whole, atol=1e-14)


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (lambda model: model.lm_head.weight.data.mul_(2), "changes weights: lm_head.weight"),
        (lambda model: setattr(model, "more", nn.Linear(1, 1)), "changes the names of the weights"),
        (lambda model: setattr(model.model.layers[0].mlp, "act_fn", nn.ReLU()), "changes the logits"),
        (lambda model: model.lm_head.requires_grad_(requires_grad=False), "missing or new: the gradient of lm_head"),
    ],
    ids=["weights", "names", "function", "frozen"],
)
def test_check_patch_finds(broken: Any, said: str) -> None:
    """Each way for a patch to change more than it may is named."""
    with pytest.raises(AssertionError, match=said):
        check_patch(broken, tiny(), IDS)
