"""TRL's trainer for a stage: its SFTConfig from the recipe, and the callbacks of ctxkit."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.trainer_callback import PrinterCallback
from trl import SFTConfig, SFTTrainer

from ctxkit.errors import Fault, RecipeError
from ctxkit.reading import Located
from ctxkit.recipe import Stage
from ctxkit.settings import sft_settings
from ctxkit.spec import ModelRequest, TrainerRequest, hookimpl
from ctxkit.train.model import make_model


def sft_config(located: Located, stage: Stage, output_dir: Path) -> SFTConfig:
    """Return the arguments of a stage; SFTConfig itself judges the values.

    Raises:
        RecipeError: SFTConfig refuses them.
    """
    values: dict[str, Any] = {name: setting.value for name, setting in sft_settings(located, stage).items()}
    if not torch.accelerator.is_available():
        # Without it several processes would each train a model of their own, and bf16 would be tried.
        values.setdefault("use_cpu", True)
    try:
        with warnings.catch_warnings():
            if "gradient_checkpointing" not in values:
                # TRL's own default, under a name that transformers retires; nobody wrote it.
                warnings.filterwarnings("ignore", message="`gradient_checkpointing", category=FutureWarning)
            config = SFTConfig(output_dir=str(output_dir), **values)
    except (ValueError, TypeError, AttributeError, ImportError) as error:
        said = " ".join(str(error).split())
        node, _ = located.stages[stage.name].nearest(("train",))
        fault = Fault(
            ("stages", stage.name, "train"), f"SFTConfig refuses these values: {said}", origin=node.key_origin
        )
        raise RecipeError([fault]) from error
    kind = (getattr(config, "fsdp_plugin_args", None) or {}).get("state_dict_type", "FULL_STATE_DICT")
    if config.fsdp and kind != "FULL_STATE_DICT":
        message = f"with a state_dict_type of {kind} no whole model could be saved at the end of the stage"
        raise RecipeError([located.fault(stage.name, ("train", "fsdp_config"), message, "leave it out")])
    return config


class CoreHooks:
    """The core's own answers, asked after every plugin's."""

    @hookimpl(trylast=True)
    def ctxkit_make_model(self, request: ModelRequest) -> PreTrainedModel:
        """Load by `AutoModelForCausalLM`."""
        return make_model(request)

    @hookimpl(trylast=True)
    def ctxkit_make_trainer(self, request: TrainerRequest) -> SFTTrainer:
        """Make TRL's own trainer."""
        return SFTTrainer(
            model=request.model,
            args=request.args,
            train_dataset=request.train_dataset,
            eval_dataset=request.eval_dataset if request.args.eval_strategy != "no" else None,
            processing_class=request.tokenizer,
            callbacks=list(request.callbacks),
        )


def quiet(trainer: SFTTrainer) -> None:
    """Keep the trainer from printing its logs to stdout, which belongs to results."""
    trainer.remove_callback(PrinterCallback)
