"""One stage on given GPUs: what it needs, how long it takes, and the longest rows that it could have."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from ctxkit_planner.corrections import correction, needed
from ctxkit_planner.memory import largest_window
from ctxkit_planner.parameters import parameters
from ctxkit_planner.setups import setup_of
from ctxkit_planner.speed import step

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ctxkit.spec import PlannedStage
    from ctxkit_planner.machines import Machines
    from ctxkit_planner.memory import Memory
    from ctxkit_planner.setup import Setup
    from ctxkit_planner.shape import Shape
    from ctxkit_planner.speed import Step

WINDOW_STEP = 1024
"""A largest window is a multiple of so many tokens."""


@dataclass(frozen=True)
class StagePlan:
    """What a stage comes to."""

    stage: PlannedStage
    shape: Shape
    setup: Setup
    machines: Machines
    kernel: str = ""
    """`model.attn_implementation`."""
    fresh: bool = False
    """Whether the model has no weights yet, beside which an adapter would make no sense."""
    alone: bool = True
    """Whether there is no other stage, which a change of the model or of `launch` would change too."""
    train: Mapping[str, Any] = field(default_factory=dict)
    """What the recipe writes into its `train`."""
    carries: bool = False
    """Whether it goes on with the optimizer of the stage before, which must lie whole on every GPU."""

    patches: tuple[Mapping[str, Any], ...] = ()
    """What it has in `patches`."""
    launch: Mapping[str, Any] = field(default_factory=dict)
    """The section of the recipe, which all stages share."""

    @property
    def engine_in_train(self) -> bool:
        """Whether `train` says something of DeepSpeed or FSDP, if only that there is none, whatever `launch` says."""
        return any(engine in self.train for engine in ("deepspeed", "fsdp"))

    @property
    def tokens(self) -> int:
        """Tokens of the longest row: of the prepared data where nothing pads it, else of the recipe."""
        prepared = self.stage.prepared
        padded = self.setup.sequence != "none"
        return self.stage.row_length if prepared is None or padded else max(prepared.longest, 1)

    @cached_property
    def memory(self) -> Memory:
        """Its peak."""
        return needed(self.machines.gpu, self.shape, self.setup, self.tokens)

    @property
    def calibrated(self) -> bool:
        """Whether measured figures correct that."""
        return correction(self.machines.gpu, self.shape, self.setup) is not None

    @cached_property
    def fits(self) -> bool:
        """Whether GPU and host hold it."""
        return self.machines.hold(self.memory)

    @property
    def multiple(self) -> int:
        """GPUs of which it needs a multiple: what `parallelism_config` states, multiplied."""
        return math.prod(int(self._sizes.get(f"{name}_size") or 1) for name in ("sp", "cp", "dp_replicate", "dp_shard"))

    @property
    def exact(self) -> bool:
        """Whether it needs just so many, since the shards are stated too."""
        return bool(self._sizes.get("dp_shard_size"))

    @property
    def starts(self) -> bool:
        """Whether it can start on the GPUs of the plan."""
        gpus = self.machines.gpus
        return gpus == self.multiple if self.exact else gpus % self.multiple == 0

    @property
    def _sizes(self) -> Mapping[str, Any]:
        return self.stage.settings.get("parallelism_config") or {}

    @property
    def rows_per_step(self) -> int:
        """Rows of one optimizer step, over all processes."""
        return max(self.machines.gpus // self.setup.sequence_size, 1) * self.setup.rows * self.setup.accumulation

    @property
    def tokens_per_step(self) -> float:
        """Tokens of one optimizer step: with prepared data what its rows hold on average, else full rows."""
        prepared = self.stage.prepared
        row = prepared.tokens / prepared.rows if prepared and prepared.rows else self.stage.row_length
        return self.rows_per_step * row

    @property
    def efficiency(self) -> float | None:
        """Trained tokens by those that full rows would have; None without prepared data."""
        prepared = self.stage.prepared
        if prepared is None or not prepared.rows:
            return None
        return prepared.tokens_trained / (prepared.rows * self.stage.row_length)

    @property
    def steps(self) -> int | None:
        """Optimizer steps: as stated, or by epochs over the rows that there are or at most will be; else None."""
        if self.stage.steps is not None or not self.stage.trains:
            return self.stage.steps or 0
        rows = self.stage.prepared.rows if self.stage.prepared else self._most_rows
        epochs = float(self.stage.settings.get("num_train_epochs") or 3)
        return None if rows is None else math.ceil(math.ceil(rows / self.rows_per_step) * epochs)

    @cached_property
    def step(self) -> Step:
        """The time of one step, on rows as long as they are on average."""
        row = max(round(self.tokens_per_step / self.rows_per_step), 1)
        return step(self.shape, self.setup, row, self.machines, self.kernel)

    @cached_property
    def largest_window(self) -> int:
        """The longest rows that fit with everything else as it is, in tokens; 0 where none do."""
        machines = self.machines
        multiple = WINDOW_STEP * self.setup.sequence_size if self.setup.sequence == "ulysses" else WINDOW_STEP
        host = machines.host_bytes / machines.beside
        needs = partial(needed, machines.gpu)
        return largest_window(self.shape, self.setup, machines.usable_bytes, host, multiple, needs)

    @cached_property
    def counted(self) -> tuple[int, int]:
        """Parameters, those of an adapter included; and those that are trained."""
        found = parameters(self.shape, self.setup.adapter)
        return found.total, found.trainable if self.stage.trains else 0

    @property
    def _most_rows(self) -> int | None:
        most = self.stage.max_tokens
        return None if most is None else math.ceil(most / self.stage.row_length)


def stage_plan(
    recipe: Mapping[str, Any], stage: PlannedStage, config: Mapping[str, Any], shape: Shape, machines: Machines
) -> StagePlan:
    """Return the plan of one stage of a recipe."""
    setup = setup_of(recipe, stage, config, machines.gpus)
    model, stages = recipe.get("model") or {}, recipe.get("stages") or ()
    own: Mapping[str, Any] = next((each for each in stages if each["name"] == stage.name), {})
    return StagePlan(
        stage,
        shape,
        setup,
        machines,
        kernel=str(model.get("attn_implementation") or ""),
        fresh=not model.get("name_or_path"),
        alone=len(stages) <= 1,
        train=own.get("train") or {},
        carries=own.get("optimizer") == "carry",
        patches=tuple(own.get("patches") or ()),
        launch=recipe.get("launch") or {},
    )
