"""A stage's `train` section made small: few steps, small batches, and nothing that needs a GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ctxkit.settings import ACCUMULATION, BATCH
from ctxkit.sft_fields import sft_fields

if TYPE_CHECKING:
    from collections.abc import Mapping

STEPS = 2
SAVED = 1
"""Steps between checkpoints."""
ROWS = 2
"""In a batch, and batches in a step."""
RHYTHM = {"warmup_steps": 1, "logging_steps": 1, "eval_steps": SAVED, "save_steps": SAVED}
"""What happens every so many steps, and how many those are at most."""
LEFT_OUT = None
"""In place of a value: the key is taken away."""
GPU = ("fsdp", "fsdp_config", "deepspeed", "tf32", "use_liger_kernel", "liger_kernel_config", "torch_compile",
       "torch_compile_backend", "torch_compile_mode", "parallelism_config", "activation_offloading")  # fmt: skip
CPU_OPTIMIZERS = ("adamw_torch", "adafactor", "sgd", "rmsprop", "adagrad", "stable_adamw", "schedule_free")
"""How the names of the optimizers begin that need no GPU."""


def toy_train(train: Mapping[str, Any], *, steps: bool) -> dict[str, tuple[Any, str]]:
    """Return what changes in a `train` section, each key with its new value and the reason.

    `steps` says whether the section decides how long is trained; a curriculum may instead.
    """
    rows = {"max_length": (None, "it follows from the rows, which shrink")} if "max_length" in train else {}
    return {**_few_steps(train, steps=steps), **_small_batches(train), **_on_cpu(train), **rows}


def _few_steps(train: Mapping[str, Any], *, steps: bool) -> dict[str, tuple[Any, str]]:
    few = f"a rehearsal has {STEPS} steps"
    found: dict[str, tuple[Any, str]] = {
        key: (least, few) for key, least in RHYTHM.items() if _over(train.get(key), least)
    }
    if steps and train.get("max_steps") != 0:
        stated = train.get("max_steps") or 0
        found["max_steps"] = (min(stated, STEPS) if stated > 0 else STEPS, few)
    schedule: dict[str, Any] = dict(train.get("lr_scheduler_kwargs") or {})
    shorter = {key: 1 if key.endswith("_steps") else value for key, value in schedule.items()}
    return found if shorter == schedule else {**found, "lr_scheduler_kwargs": (shorter, few)}


def _small_batches(train: Mapping[str, Any]) -> dict[str, tuple[Any, str]]:
    said = "small batches"
    keys = (BATCH, ACCUMULATION, "per_device_eval_batch_size")
    present = {key: train.get(key, int(sft_fields()[key].default)) for key in keys}
    found = {key: (ROWS, said) for key, value in present.items() if _over(value, ROWS)}
    # Stated in each stage, so that no accumulation follows from another stage's.
    return {BATCH: (present[BATCH], said), **found}


def _on_cpu(train: Mapping[str, Any]) -> dict[str, tuple[Any, str]]:
    cpu = "a rehearsal runs on the CPU, in one process"
    found: dict[str, tuple[Any, str]] = {key: (LEFT_OUT, cpu) for key in GPU if key in train}
    found["bf16"] = (False, cpu)
    if train.get("fp16"):
        found["fp16"] = (False, cpu)
    if "optim" in train and not str(train["optim"]).startswith(CPU_OPTIMIZERS):
        found["optim"] = ("adamw_torch", cpu)
    if train.get("dataloader_num_workers"):
        found["dataloader_num_workers"] = (0, cpu)
    if train.get("report_to", "none") not in ("none", []):
        found["report_to"] = ("none", "its figures mean nothing")
    return found


def _over(value: object, least: int) -> bool:
    return isinstance(value, int | float) and value > least
