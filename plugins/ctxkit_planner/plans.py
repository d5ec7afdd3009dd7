"""The plan of a recipe: every stage on the same machines, and what they come to together."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ctxkit.errors import CtxkitError, ExitCode
from ctxkit_planner import setups
from ctxkit_planner.advice import advise
from ctxkit_planner.gpus import WITHOUT_BFLOAT16
from ctxkit_planner.machines import Machines
from ctxkit_planner.published import published_config
from ctxkit_planner.shape import shape_of
from ctxkit_planner.stages import StagePlan, stage_plan

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ctxkit.spec import PlanRequest
    from ctxkit_planner.advice import Advice
    from ctxkit_planner.gpus import Gpu
    from ctxkit_planner.shape import Shape

HOUR = 3600


@dataclass(frozen=True)
class Plan:
    """The plan of a recipe on some machines."""

    request: PlanRequest
    shape: Shape
    source: str
    """Where the shape of the model was read."""
    machines: Machines
    stages: tuple[StagePlan, ...]

    @property
    def trained(self) -> list[StagePlan]:
        """The stages that take a step."""
        return [stage for stage in self.stages if stage.stage.trains]

    @property
    def made_for(self) -> int:
        """GPUs that the recipe is made for."""
        return _made_for(self.request)

    @cached_property
    def largest(self) -> StagePlan | None:
        """The stage that needs the most; None where none trains."""
        return max(self.trained, key=lambda stage: stage.memory.peak_bytes, default=None)

    @cached_property
    def fits(self) -> bool:
        """Whether every stage fits, and can start on so many GPUs."""
        return all(stage.fits for stage in self.trained) and not self.unstartable

    @property
    def unstartable(self) -> list[str]:
        """Why stages cannot start on so many GPUs."""
        gpus = self.machines.gpus
        return [
            f"stage {stage.stage.name} needs {'' if stage.exact else 'a multiple of '}{stage.multiple} GPUs "
            f"(parallelism_config): on {gpus} it cannot start"
            for stage in self.trained
            if not stage.starts
        ]

    @cached_property
    def advice(self) -> Mapping[str, Advice]:
        """What would make each stage fit that does not, by its name."""
        return {stage.stage.name: advise(stage) for stage in self.trained if not stage.fits}

    @cached_property
    def seconds(self) -> float | None:
        """Of all steps; None where the steps of a stage are not known."""
        each = [None if stage.steps is None else stage.steps * stage.step.seconds for stage in self.trained]
        return None if None in each else math.fsum(time for time in each if time is not None)

    @property
    def gpu_hours(self) -> float | None:
        """Hours times GPUs."""
        return None if self.seconds is None else self.seconds / HOUR * self.machines.gpus

    @property
    def cost(self) -> float | None:
        """At the price that was typed."""
        price = self.request.hardware.price
        return None if price is None or self.gpu_hours is None else price * self.gpu_hours

    @cached_property
    def notes(self) -> list[str]:
        """What one must know to read the figures."""
        notes = setups.unread(self.request.recipe, config_of(self.request)[0] or {})
        for stage in self.trained:
            notes += setups.unread_of(stage.stage)
            if stage.setup.adapter and not stage.counted[1]:
                notes.append(f"the adapter of stage {stage.stage.name} finds none of its modules in such a model")
        if self.machines.gpus != self.made_for:
            notes.append(_other_gpus(self))
        if self.machines.gpu.name in WITHOUT_BFLOAT16 and any(_bfloat16(stage) for stage in self.trained):
            notes.append(f"{self.machines.gpu.name} has no bfloat16: write `fp16: true` and `bf16: false` into train")
        if self.machines.count > 1:
            notes.append("links between machines are taken to be as fast as those within one; slower ones take longer")
        return notes + self.unstartable


def make_plan(request: PlanRequest, gpu: Gpu) -> Plan:
    """Return the plan of a recipe.

    Raises:
        CtxkitError: the model's shape is not known.
    """
    hardware = request.hardware
    config, source = needed_config(request)
    shape = shape_of(config)
    host = math.inf if hardware.host_bytes is None else float(hardware.host_bytes)
    machines = Machines(gpu, hardware.gpus or _made_for(request), host, hardware.mfu)
    stages = tuple(stage_plan(request.recipe, stage, config, shape, machines) for stage in request.stages)
    return Plan(request, shape, source, machines, stages)


def _made_for(request: PlanRequest) -> int:
    return int((request.recipe.get("launch") or {}).get("num_processes") or 1)


def config_of(request: PlanRequest) -> tuple[Mapping[str, Any] | None, str]:
    """Return the config of the model and where it was read; the list of published shapes stands in."""
    model = request.recipe.get("model") or {}
    over = model.get("config") or {}
    if request.config is not None:
        return request.config, request.config_source
    listed = published_config(request.model)
    if listed is not None:
        return {**listed, **over}, f"its published shape, as ctxkit lists it ({request.config_source})"
    if "num_hidden_layers" in over:
        return {"model_type": "llama", **over}, f"model.config of the recipe ({request.config_source})"
    return None, request.config_source


def needed_config(request: PlanRequest) -> tuple[Mapping[str, Any], str]:
    """Return the same.

    Raises:
        CtxkitError: the model's shape is not to be had; says how to write it.
    """
    config, source = config_of(request)
    if config is None:
        message = f"the shape of {request.model} is not known here: {source}"
        hint = (
            "write it as `model.config`, from its config.json: hidden_size, intermediate_size, num_hidden_layers, "
            "num_attention_heads, num_key_value_heads, vocab_size; or name a folder with that file"
        )
        raise CtxkitError(message, hint, exit_code=ExitCode.RECIPE)
    return config, source


def _bfloat16(stage: StagePlan) -> bool:
    settings = stage.stage.settings
    return settings.get("bf16") is not False and not settings.get("fp16")


def _other_gpus(plan: Plan) -> str:
    gpus, made_for = plan.machines.gpus, plan.made_for
    made = f"{made_for} GPU{'s' if made_for > 1 else ''}"
    said = f"the recipe is made for {made}: on {gpus} a step sees {gpus / made_for:g} times the tokens"
    stage = plan.largest
    times = stage.setup.accumulation * made_for if stage else 1
    if stage and times % gpus == 0:
        return f"{said}; with gradient_accumulation_steps: {times // gpus} it sees the same"
    return said
