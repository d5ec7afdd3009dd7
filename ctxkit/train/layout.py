"""The parallel layout of one stage: what it sets for DeepSpeed or FSDP must not reach the next."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from transformers.integrations.deepspeed import unset_hf_deepspeed_config

PREFIXES = ("ACCELERATE_", "FSDP_", "PARALLELISM_CONFIG_")
"""Variables by which accelerate tells later parts of the same process what the first `Accelerator` was made with."""

EFFICIENT = "FSDP_CPU_RAM_EFFICIENT_LOADING"


@contextmanager
def own_layout() -> Iterator[None]:
    """Give a stage the layout of the launcher and of its own `train` section, and no other stage's.

    accelerate and transformers read the layout from the environment where their arguments say nothing, and write it
    there where they do: a stage without DeepSpeed after one with ZeRO-3 would train with ZeRO-3.
    """
    before = _variables()
    try:
        yield
    finally:
        for name in _variables():
            del os.environ[name]
        os.environ.update(before)
        unset_hf_deepspeed_config()


@contextmanager
def whole_weights() -> Iterator[None]:
    """Load all weights in every process: with FSDP, transformers would load them in the first of a machine alone."""
    before = os.environ.get(EFFICIENT)
    os.environ[EFFICIENT] = "false"
    try:
        yield
    finally:
        if before is None:
            del os.environ[EFFICIENT]
        else:
            os.environ[EFFICIENT] = before


def _variables() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith(PREFIXES)}
