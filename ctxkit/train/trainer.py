"""TRL's trainer for a stage: its SFTConfig from the recipe, and the callbacks of ctxkit."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.optim.lr_scheduler import LambdaLR, LRScheduler
from transformers import PreTrainedModel
from transformers.trainer_callback import PrinterCallback
from trl import SFTConfig, SFTTrainer

from ctxkit.errors import CtxkitError, ExitCode, Fault, RecipeError
from ctxkit.reading import Located
from ctxkit.recipe import Stage
from ctxkit.settings import ACCUMULATION, sft_settings
from ctxkit.spec import ModelRequest, TrainerRequest, hookimpl
from ctxkit.train.model import make_model
from ctxkit.train.parallel import check_world, parallelism


def sft_config(located: Located, stage: Stage, output_dir: Path, accumulation: int | None = None) -> SFTConfig:
    """Return the arguments of a stage; SFTConfig itself judges the values.

    `accumulation` takes the place of the recipe's, where as many rows a step need another.

    Raises:
        RecipeError: SFTConfig refuses them.
    """
    values: dict[str, Any] = {name: setting.value for name, setting in sft_settings(located, stage).items()}
    if accumulation is not None:
        values[ACCUMULATION] = accumulation
    if not torch.accelerator.is_available():
        # Without it several processes would each train a model of their own, and bf16 would be tried.
        values.setdefault("use_cpu", True)
    if values.get("parallelism_config"):
        values["parallelism_config"] = parallelism(values["parallelism_config"], fsdp=bool(values.get("fsdp")))
    try:
        with warnings.catch_warnings():
            if "gradient_checkpointing" not in values:
                # TRL's own default, under a name that transformers retires; nobody wrote it.
                warnings.filterwarnings("ignore", message="`gradient_checkpointing", category=FutureWarning)
            config = SFTConfig(output_dir=str(output_dir), **values)
    except (ValueError, TypeError, AttributeError, ImportError) as error:
        said = " ".join(str(error).split())
        node, _ = located.stages[stage.name].nearest(("train",))
        missing = "pip install -e '.[gpu]' brings the optional packages" if isinstance(error, ImportError) else ""
        message = f"SFTConfig refuses these values: {said}"
        fault = Fault(("stages", stage.name, "train"), message, missing, node.key_origin)
        raise RecipeError([fault]) from error
    check_world(config)
    if config.activation_offloading and not torch.accelerator.is_available():
        message = "there is no GPU here to take activations from"
        raise RecipeError([located.fault(stage.name, ("train", "activation_offloading"), message, "leave it out")])
    kind = (getattr(config, "fsdp_plugin_args", None) or {}).get("state_dict_type", "FULL_STATE_DICT")
    if config.fsdp and kind != "FULL_STATE_DICT":
        message = f"with a state_dict_type of {kind} no whole model could be saved at the end of the stage"
        raise RecipeError([located.fault(stage.name, ("train", "fsdp_config"), message, "leave it out")])
    return config


class ScaledTrainer(SFTTrainer):
    """TRL's trainer, the learning rate of its own schedule multiplied by what a curriculum says of each step."""

    def __init__(self, *args: Any, learning_rate: Callable[[int], float], **kwargs: Any) -> None:
        """Take the multiplier by optimizer step, from 0, and what SFTTrainer takes."""
        self._multiplier = learning_rate
        super().__init__(*args, **kwargs)

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None) -> LRScheduler:
        """Return the schedule of the arguments, multiplied; what it is at a step depends on the step alone.

        Raises:
            CtxkitError: the schedule is none of a step alone, such as `reduce_lr_on_plateau`.
        """
        scheduler = super().create_scheduler(num_training_steps, optimizer)
        if not isinstance(scheduler, LambdaLR):
            said = f"a curriculum cannot change the learning rate of a {type(scheduler).__name__}"
            raise CtxkitError(said, "choose another train.lr_scheduler_type", exit_code=ExitCode.RECIPE)
        scaled = [_product(rule, self._multiplier) for rule in scheduler.lr_lambdas]
        self.lr_scheduler = LambdaLR(scheduler.optimizer, scaled)
        return self.lr_scheduler


def _product(first: Callable[[int], float], second: Callable[[int], float]) -> Callable[[int], float]:
    return lambda step: first(step) * second(step)


class CoreHooks:
    """The core's own answers, asked after every plugin's."""

    @hookimpl(trylast=True)
    def ctxkit_make_model(self, request: ModelRequest) -> PreTrainedModel:
        """Load by `AutoModelForCausalLM`."""
        return make_model(request)

    @hookimpl(trylast=True)
    def ctxkit_make_trainer(self, request: TrainerRequest) -> SFTTrainer:
        """Make TRL's own trainer."""
        arguments: dict[str, Any] = {
            "model": request.model,
            "args": request.args,
            "train_dataset": request.train_dataset,
            "eval_dataset": request.eval_dataset if request.args.eval_strategy != "no" else None,
            "processing_class": request.tokenizer,
            "callbacks": list(request.callbacks),
        }
        if request.learning_rate is None:
            return SFTTrainer(**arguments)
        return ScaledTrainer(**arguments, learning_rate=request.learning_rate)


def quiet(trainer: SFTTrainer) -> None:
    """Keep the trainer from printing its logs to stdout, which belongs to results."""
    trainer.remove_callback(PrinterCallback)
