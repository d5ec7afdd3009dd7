"""Processes that share a stage: accelerate's ParallelismConfig, and a look at whether what was asked is what runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from accelerate.parallelism_config import ParallelismConfig
from accelerate.utils import DistributedType
from accelerate.utils.dataclasses import DeepSpeedSequenceParallelConfig, TorchContextParallelConfig
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from trl import SFTConfig, SFTTrainer

from ctxkit import launch
from ctxkit.compatibility import incompatible
from ctxkit.errors import CtxkitError, ExitCode, RecipeError
from ctxkit.layouts import Layout, layout
from ctxkit.reading import Located
from ctxkit.recipe import Stage
from ctxkit.train.sharing import share_rows

HANDLERS = {"cp_handler": TorchContextParallelConfig, "sp_handler": DeepSpeedSequenceParallelConfig}


def parallelism(fields: Mapping[str, Any], *, fsdp: bool) -> ParallelismConfig:
    """Return accelerate's object for a recipe's fields.

    With FSDP the processes that share no row share the weights, unless the recipe says how many do.

    Args:
        fields: Those of ParallelismConfig, its handlers as mappings.
        fsdp: Whether FSDP shards the weights.

    Raises:
        CtxkitError: with exit code 2, if the sizes do not fit the number of processes.
    """
    made = {**fields, **{name: kind(**fields[name]) for name, kind in HANDLERS.items() if fields.get(name)}}
    world, taken = launch.world_size(), 1
    for name in ("sp_size", "cp_size", "tp_size", "dp_replicate_size"):
        taken *= fields.get(name) or 1
    if world % taken:
        said = f"parallelism_config spreads the work over groups of {taken} processes, and {world} run here"
        raise CtxkitError(said, "start a multiple of them", exit_code=ExitCode.RECIPE)
    if fsdp and "dp_shard_size" not in fields:
        made["dp_shard_size"] = world // taken
    return ParallelismConfig(**made)


def check_world(args: SFTConfig) -> None:
    """Refuse to go on where the processes that the launcher started have not found each other.

    Raises:
        CtxkitError: each of them would train a model of its own.
    """
    if args.world_size != launch.world_size():
        said = f"the launcher started {launch.world_size()} processes, and they joined as {args.world_size}"
        raise CtxkitError(said, "see docs/launching.md for the lines that work")


def guarded(trainer: SFTTrainer, located: Located, stage: Stage) -> None:
    """Have a trainer refuse another layout than the recipe asks for, and share rows so that it can go on later.

    Raises:
        RecipeError: the loaded model cannot be shared so.
    """
    asked, model = layout(located, stage), cast("Any", trainer.model)
    if faults := list(incompatible(located, stage, model.config.get_text_config().to_dict())):
        raise RecipeError(faults)
    trainer.add_callback(LayoutGuard(trainer, asked, elsewhere=bool(located.recipe.launch.config_file)))
    if trainer.get_sp_size() > 1:
        share_rows(trainer, trainer.get_sp_size())


class LayoutGuard(TrainerCallback):
    """Look, before the first step, whether the layout that the recipe asks for is the one that runs.

    accelerate falls back without a word: FSDP on processes without a GPU is plain data parallelism to it.
    """

    def __init__(self, trainer: SFTTrainer, asked: Layout, *, elsewhere: bool = False) -> None:
        """Remember whom to look at, what was asked, and whether accelerate's own file says how rows are shared."""
        self._trainer, self._asked, self._elsewhere = trainer, asked, elsewhere

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: Any
    ) -> None:
        """Compare.

        Raises:
            CtxkitError: with exit code 2, if another layout runs.
        """
        if launch.world_size() == 1 and not (self._asked.deepspeed or self._asked.per_row > 1):
            return  # nothing to share; FSDP has nobody to shard with
        for what, wanted, found in self._compared():
            if wanted != found:
                said = f"the recipe asks for {what} {wanted}, and {found} runs"
                raise CtxkitError(said, "see docs/launching.md for what each layout needs", exit_code=ExitCode.RECIPE)

    def _compared(self) -> list[tuple[str, Any, Any]]:
        trainer, asked = self._trainer, self._asked
        accelerator, wrapped = trainer.accelerator, cast("Any", trainer.model_wrapped)
        found: list[tuple[str, Any, Any]] = [("processes:", launch.world_size(), accelerator.num_processes)]
        if not self._elsewhere:
            found += [("sp_size", asked.sp, trainer.get_sp_size()), ("cp_size", asked.cp, trainer.get_cp_size())]
        if asked.deepspeed or asked.fsdp:
            kind = DistributedType.DEEPSPEED if asked.deepspeed else DistributedType.FSDP
            found.append(("the layout", kind.value, accelerator.distributed_type.value))
            found.append(("a model wrapped by", "DeepSpeed" if asked.deepspeed else "FSDP", self._wrapper()))
        if asked.zero:
            found.append(("ZeRO stage", asked.zero, wrapped.zero_optimization_stage()))
        return found

    def _wrapper(self) -> str:
        kinds = {"DeepSpeedEngine": "DeepSpeed", "FSDPModule": "FSDP", "FullyShardedDataParallel": "FSDP"}
        wrapped = type(self._trainer.model_wrapped)
        return next((kinds[base.__name__] for base in wrapped.__mro__ if base.__name__ in kinds), wrapped.__name__)
