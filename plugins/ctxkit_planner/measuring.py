"""A few real optimizer steps of a model with random weights, and what they take on the GPU of this machine."""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING, Any

from ctxkit.errors import CtxkitError
from ctxkit_planner.calibration import Measured, calibrate, keep, key_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ctxkit_planner.calibration import Calibration
    from ctxkit_planner.setup import Setup

STEPS = 2
"""The second step finds the optimizer's states."""
KERNELS = {"flash": "flash_attention_2", "sdpa": "sdpa", "eager": "eager"}


def calibrate_here(config: Mapping[str, Any], setup: Setup, longest: int) -> tuple[Calibration, Path]:
    """Measure on the GPU of this machine at a quarter of the longest row and at all of it; keep the corrections.

    Raises `CtxkitError` where there is no GPU, in one line.
    """
    import torch

    if not torch.cuda.is_available():
        raise CtxkitError("--calibrate trains a few steps on a GPU, and torch finds none on this machine")
    lengths = (max(longest // 4, 1024), max(longest, 2048))
    total = float(torch.cuda.get_device_properties(0).total_memory)
    calibration = calibrate(config, setup, lengths, total, on_gpu)
    return calibration, keep(key_of(torch.cuda.get_device_name(0), config, setup), calibration)


def on_gpu(config: Mapping[str, Any], setup: Setup, tokens: int) -> Measured:
    """Train on the GPU and return the highest figures of torch's allocator."""
    import gc

    import torch

    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    train(config, setup, tokens, device="cuda")
    return Measured(float(torch.cuda.max_memory_allocated()), float(torch.cuda.max_memory_reserved()))


def train(config: Mapping[str, Any], setup: Setup, tokens: int, device: str) -> None:
    """Take a few steps with SFTTrainer on rows of random tokens, as a stage with this setup would."""
    from trl import SFTTrainer

    with tempfile.TemporaryDirectory() as folder:
        trainer = SFTTrainer(
            model=_model(config, setup, device),
            args=_arguments(setup, folder, device),
            train_dataset=_rows(config, setup, tokens),
            processing_class=_tokenizer(),
            peft_config=_adapter(setup),
        )
        if setup.adapter and setup.adapter.dtype_bytes == 2:
            _cast(trainer.model)
        trainer.train()


def _model(config: Mapping[str, Any], setup: Setup, device: str) -> Any:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    keys = {key: value for key, value in config.items() if key != "model_type"}
    asked = AutoConfig.for_model(config["model_type"], **keys)
    with torch.device(device):
        return AutoModelForCausalLM.from_config(
            asked,
            dtype=getattr(torch, setup.weights),
            attn_implementation=KERNELS[setup.attention],
            trust_remote_code=False,
        )


def _arguments(setup: Setup, folder: str, device: str) -> Any:
    from trl import SFTConfig

    checkpoints = setup.checkpointing != "none"
    kwargs: dict[str, Any] = {"use_reentrant": False}
    kwargs |= {"selective": True} if setup.checkpointing == "selective" else {}
    kwargs |= {"every_n_layers": setup.every_n_layers} if setup.every_n_layers > 1 else {}
    return SFTConfig(
        output_dir=folder,
        max_steps=STEPS,
        per_device_train_batch_size=setup.rows,
        gradient_checkpointing=checkpoints,
        gradient_checkpointing_kwargs=kwargs if checkpoints else None,
        activation_offloading=setup.activation_offload,
        use_liger_kernel=setup.liger_layers,
        optim=setup.optimizer,
        bf16=setup.compute_bytes == 2,
        max_length=None,
        use_cpu=device == "cpu",
        dataset_kwargs={"skip_prepare_dataset": True},
        logging_strategy="no",
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )


def _rows(config: Mapping[str, Any], setup: Setup, tokens: int) -> Any:
    import numpy as np
    from datasets import Dataset

    words = min(int(config.get("vocab_size", 1000)), 1000)
    rows = np.random.default_rng(0).integers(3, words, (setup.rows * STEPS, tokens))
    return Dataset.from_dict({"input_ids": rows.tolist(), "labels": rows.tolist()})


def _tokenizer() -> Any:
    """Return a tokenizer for the collator's padding alone."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(WordLevel({"<pad>": 0, "<eos>": 1}, unk_token="<pad>"))  # noqa: S106 - a token of text
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="<eos>")  # noqa: S106


def _adapter(setup: Setup) -> Any:
    from peft import LoraConfig

    adapter = setup.adapter
    if adapter is None:
        return None
    targets = adapter.target_modules
    return LoraConfig(
        r=adapter.r,
        target_modules=targets if isinstance(targets, str) else list(targets) or None,
        modules_to_save=list(adapter.modules_to_save) or None,
        use_dora=adapter.use_dora,
        task_type="CAUSAL_LM",
    )


def _cast(model: Any) -> None:
    import torch

    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(torch.bfloat16)
