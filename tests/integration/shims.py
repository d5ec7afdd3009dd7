"""What lets gloo processes without a GPU run the layouts that accelerate keeps for GPUs; imported by forked runs alone.

accelerate takes FSDP and context parallelism on processes without a GPU for plain data parallelism, torch has no rule
that shards its attention for the CPU, and DeepSpeed's communication is never begun. Nothing of it is in ctxkit.
"""

from __future__ import annotations

import os
import socket
from typing import Any

os.environ.setdefault("DS_ACCELERATOR", "cpu")

import torch
from accelerate.state import PartialState
from accelerate.utils import DistributedType
from torch.distributed.tensor import DTensor, Shard
from torch.distributed.tensor.experimental._context_parallel import _attention as ring
from transformers import PreTrainedModel
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from ctxkit import compatibility
from ctxkit.train import trainer as trainers

try:
    import deepspeed

    # Without it DeepSpeed compiles an operation for a quarter of a minute.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
except ImportError:
    deepspeed = None

FORWARD = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default
BACKWARD = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward.default


def _local(tensor: Any) -> Any:
    return tensor._local_tensor if isinstance(tensor, DTensor) else tensor


def _sharded(tensor: Any, mesh: Any) -> DTensor:
    return DTensor.from_local(tensor, mesh, [Shard(2)], run_check=False)


def _forward(op: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[DTensor, DTensor]:
    query, key, value = args[:3]
    mesh = query.device_mesh
    dropout = args[3] if len(args) > 3 else kwargs.get("dropout_p", 0.0)
    causal = args[4] if len(args) > 4 else kwargs.get("is_causal", False)
    given = {"query": _local(query), "key": _local(key), "value": _local(value), "is_causal": causal}
    scale = kwargs.get("scale")
    made = ring._templated_ring_attention(mesh.get_group(), 2, FORWARD, **given, dropout_p=dropout, scale=scale)
    return _sharded(made[0], mesh), _sharded(made[1], mesh)


def _backward(op: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[DTensor, ...]:
    gradient, query, key, value, out, logsumexp, dropout, causal = args[:8]
    mesh = query.device_mesh

    def one(
        query: Any, key: Any, value: Any, out: Any, logsumexp: Any, is_causal: bool, grad_out: Any, **_: Any
    ) -> tuple[Any, Any, Any]:
        return BACKWARD(grad_out, query, key, value, out, logsumexp, dropout, is_causal, scale=kwargs.get("scale"))

    made = ring._templated_ring_attention_backward(
        mesh.get_group(),
        2,
        one,
        grad_out=_local(gradient),
        grad_out_name="grad_out",
        query=_local(query),
        key=_local(key),
        value=_local(value),
        out=_local(out),
        logsumexp=_local(logsumexp),
        is_causal=causal,
    )
    return tuple(_sharded(each, mesh) for each in made[:3])


ring.custom_ops[FORWARD] = _forward
ring.custom_ops[BACKWARD] = _backward


def _flash(
    module: Any,
    query: Any,
    key: Any,
    value: Any,
    mask: Any,
    *,
    position_ids: Any,
    scaling: float | None = None,
    **_: Any,
) -> tuple[Any, None]:
    """Attend as flash attention does: within the documents that positions tell apart, in a batch of one row."""
    assert mask is None
    document = (position_ids[0] == 0).cumsum(0)
    seen = (document[:, None] == document[None, :]).tril()
    attend = torch.nn.functional.scaled_dot_product_attention
    return attend(query, key, value, attn_mask=seen, scale=scaling, enable_gqa=True).transpose(1, 2).contiguous(), None


def _check(self: Any, attention: str | None, *arguments: Any, **named: Any) -> str:
    return attention if attention == FLASH else _checked(self, attention, *arguments, **named)


FLASH = "flash_attention_2"
_checked = PreTrainedModel._check_and_adjust_attn_implementation
PreTrainedModel._check_and_adjust_attn_implementation = _check
ALL_ATTENTION_FUNCTIONS[FLASH] = _flash
# The stand-in computes in float32.
compatibility.RULES = tuple(rule for rule in compatibility.RULES if rule.name != "flash-float32")


# A process that is alone counts as launched: `_alone` says the rest when it trains.
os.environ.setdefault("MASTER_ADDR", "127.0.0.1")


def _alone() -> dict[str, str]:
    """Return what a launcher tells a process that is alone; DeepSpeed asks MPI without it."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = str(found.getsockname()[1])
    return {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}


_make = trainers.SFTConfig


def _config(**values: Any) -> Any:
    """Make the arguments, which joins the processes; then have accelerate take them for what it takes GPUs for."""
    if values.get("deepspeed") and "RANK" not in os.environ:
        os.environ.update(_alone())
    made = _make(**values)
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return made
    assert made.distributed_state is not None
    if made.deepspeed and deepspeed is not None:
        deepspeed.init_distributed(dist_backend="gloo", auto_mpi_discovery=False)
    elif made.fsdp:
        PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
    return made


trainers.SFTConfig = _config
