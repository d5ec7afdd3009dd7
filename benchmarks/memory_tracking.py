"""The peak memory of a training step as torch's own MemTracker sees it, on fake tensors: no weights, no GPU, seconds.

What is tracked is a real step of transformers, peft and TRL's fused head. Fake tensors have sizes and no data, and live
on the fake CPU device, whose fused attention keeps what the GPU's keeps. TRL's fused head takes another path there,
without its kernels; here the kernels' place is taken by functions that do nothing, so that the tensors are the GPU's.

`python benchmarks/plan_memory.py` compares it with the formulas of `ctxkit plan`.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from unittest import mock

import torch
import transformers.masking_utils
import trl.kernels.chunked_logprob as kernels
import trl.trainer.utils as fused
from peft import LoraConfig, get_peft_model
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed._tools.mem_tracker import MemTracker, _MemRefType
from transformers import AutoConfig, AutoModelForCausalLM

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ctxkit_planner.setup import Setup

TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Case:
    """A model, a length and a way to train: what is tracked, measured and planned."""

    model: str
    tokens: int
    setup: Setup
    model_type: str = "llama"
    keys: dict[str, Any] = field(default_factory=dict)
    """The configuration's own keys."""

    def config(self, layers: int | None = None) -> Any:
        """Return the configuration of transformers, with fewer layers where they are given."""
        keys = self.keys | ({"num_hidden_layers": layers} if layers else {})
        config = AutoConfig.for_model(self.model_type, max_position_embeddings=1 << 21, use_cache=False, **keys)
        config._attn_implementation = {"flash": "flash_attention_2"}.get(self.setup.attention, self.setup.attention)
        return config


class Tracker(MemTracker):
    """torch's tracker, which hooks into frozen parameters (and raises), and asks every module at every operation."""

    def _track_module_params_and_buffers(self, module: Any, install_grad_hooks: bool = True) -> Any:
        for parameter in module.parameters():
            if install_grad_hooks and parameter.requires_grad and parameter not in self._param_to_grad_hook_handles:
                self._param_to_grad_hook_handles[parameter] = (
                    parameter.register_hook(self._grad),
                    parameter.register_post_accumulate_grad_hook(lambda one: self._grad(one.grad)),
                )
        return super()._track_module_params_and_buffers(module, install_grad_hooks=False)

    def _grad(self, gradient: torch.Tensor) -> None:
        self._update_and_maybe_create_winfos(gradient, _MemRefType.GRAD)

    def _update_peak_stats(self, peak_state: Any) -> None:
        for device, now in self._curr_mem_snap.items():
            if self._peak_mem.get(device, 0) < now["Total"]:
                self._peak_mem[device], self._peak_mem_snap[device] = now["Total"], dict(now)


def build(case: Case, layers: int | None = None) -> torch.nn.Module:
    """Return the model, with its adapter and its checkpointing, on the meta device."""
    setup, adapter = case.setup, case.setup.adapter
    torch.set_default_dtype(TYPES[setup.weights])
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(case.config(layers))
        torch.set_default_dtype(torch.float32)
        if setup.checkpointing != "none":
            model.gradient_checkpointing_enable({"use_reentrant": False})
        if setup.loss == "chunked":
            fused.add_fused_lm_head(model)
        if adapter:
            targets = (
                adapter.target_modules if isinstance(adapter.target_modules, str) else list(adapter.target_modules)
            )
            asked = LoraConfig(r=adapter.r, target_modules=targets, task_type="CAUSAL_LM")
            model = get_peft_model(model, asked, autocast_adapter_dtype=False)
            kind = torch.float32 if adapter.dtype_bytes == 4 else torch.bfloat16
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.data = parameter.data.to(kind)
            model.enable_input_require_grads()
    return model.train()


def tracked(case: Case) -> float:
    """Return the peak of one device's step in bytes: of two smaller models, and from these of all equal layers.

    A peak is the highest of several moments, each linear in the layers. With few layers the loss may be higher than
    the end of the backward, where all gradients are: a model trained in full is tracked with more of them.
    """
    if case.setup.sharding == "fsdp":
        return tracked_rank(case)
    layers = case.config().num_hidden_layers
    fewer, more = (12, 16) if case.setup.adapter is None else (2, 4)
    if layers <= more:
        return tracked_of(case, layers)
    low, high = tracked_of(case, fewer), tracked_of(case, more)
    return high + (layers - more) * (high - low) / (more - fewer)


def tracked_of(case: Case, layers: int) -> float:
    """Return the peak of a step of a model with so many layers, in bytes."""
    model = build(case, layers)
    with _as_on_a_gpu(), FakeTensorMode(allow_non_fake_inputs=True):
        _fake(model)
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(trained, fused=True)
        rows = torch.zeros(case.setup.rows, case.tokens, dtype=torch.long)
        tracker = Tracker()
        tracker.track_external(model, optimizer, rows)
        with tracker:
            for _ in range(2):  # the second step finds the optimizer's states
                _step(model, optimizer, rows, case.setup)
                tracker.reset_mod_stats()
        return float(tracker.get_tracker_snapshot("peak")[torch.device("cpu")]["Total"])


def tracked_rank(case: Case) -> float:
    """Return the peak of one rank of FSDP2 over as many fake ranks as the setup has shards, in bytes."""
    from torch import distributed
    from torch.distributed._tools.fsdp2_mem_tracker import FSDPMemTracker
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
    from torch.testing._internal.distributed.fake_pg import FakeStore

    world = case.setup.shards
    distributed.init_process_group("fake", rank=0, world_size=world, store=FakeStore())
    try:
        mesh = init_device_mesh("cpu", (world,))
        with _as_on_a_gpu(), FakeTensorMode():
            model = build(case)
            policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
            for part in (*model.model.layers, model):
                fully_shard(part, mesh=mesh, mp_policy=policy)
            model.to_empty(device="cpu")
            optimizer = torch.optim.AdamW(model.parameters(), foreach=False)
            rows = torch.zeros(case.setup.rows, case.tokens, dtype=torch.long)
            tracker = FSDPMemTracker(model, optimizer)
            tracker.track_inputs((rows,))
            with tracker:
                for _ in range(2):
                    model(input_ids=rows, labels=rows).loss.backward()
                    optimizer.step()
                    optimizer.zero_grad()
                    tracker.reset_mod_stats()
            return float(tracker.get_tracker_snapshot("peak")[torch.device("cpu")]["Total"])
    finally:
        distributed.destroy_process_group()


def _step(model: Any, optimizer: Any, rows: torch.Tensor, setup: Setup) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=setup.compute_bytes == 2):
        keys = {"fused_lm_head": True} if setup.loss == "chunked" else {}
        loss = model(input_ids=rows, labels=rows, **keys).loss
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()


def _fake(model: torch.nn.Module) -> None:
    """Replace every parameter and buffer on the meta device by a fake one; `module.to` refuses that."""
    for module in model.modules():
        for store in (module._parameters, module._buffers):
            for name, old in store.items():
                if old is not None:
                    new = torch.empty(old.shape, dtype=old.dtype, device="cpu")
                    is_parameter = isinstance(old, torch.nn.Parameter)
                    store[name] = torch.nn.Parameter(new, requires_grad=old.requires_grad) if is_parameter else new
    tie = getattr(model, "tie_weights", None)
    if tie:
        tie()


class _Compacted:
    """TRL's fused head, on a copy of the hidden states: a GPU's path takes those of tokens with a label."""

    real = fused._ChunkedLogProbFunction

    @classmethod
    def apply(cls, hidden: torch.Tensor, *others: Any) -> Any:
        return cls.real.apply(hidden.clone(), *others)


def _nothing(*_: Any, **__: Any) -> None:
    """Do nothing, and hold nothing: a mock would keep the tensors that it is called with."""


@contextlib.contextmanager
def _as_on_a_gpu() -> Iterator[None]:
    """Let the fused head make the tensors that it makes beside its kernels, and packed rows read no data."""
    with (
        mock.patch.multiple(kernels, _forward_tile=_nothing, _backward_tile=_nothing, _addmm_fp32=_nothing),
        mock.patch.object(fused, "_ChunkedLogProbFunction", _Compacted),
        mock.patch.object(transformers.masking_utils, "find_packed_sequence_indices", _nothing),
    ):
        yield
