"""The hooks of ctxkit: what a plugin may do beside bringing components.

A plugin is a module, or any object, that is named by an entry point in the group `ctxkit`:

    [project.entry-points.ctxkit]
    my-plugin = "my_package"

It implements any of the functions below, marked with `ctxkit.spec.hookimpl`. Whatever a recipe *chooses* (a chunker, a
RoPE scaler) is a component and comes through `ctxkit_components`; the other hooks are for what acts without being
named. A hook implementation may leave out arguments that it does not need.

When it is called: `ctxkit_components` and `ctxkit_check` in every command that reads a recipe, so both must be quick
and must not import the training stack; the others during `ctxkit run`, in every process unless said otherwise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import pluggy

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from transformers import PreTrainedModel
    from trl import SFTTrainer

    from ctxkit.errors import Fault
    from ctxkit.spec.events import ModelRequest, RunFinished, RunStarted, StageFinished, TrainerRequest
    from ctxkit.spec.options import Component
    from ctxkit.spec.planning import PlanAnswer, PlanRequest

hookspec = pluggy.HookspecMarker("ctxkit")


class Hooks(Protocol):
    """Every hook; a plugin implements plain functions of these names, without `self`."""

    @hookspec
    def ctxkit_components(self) -> Iterable[type[Component]]:
        """Return the options classes of the components that this plugin brings.

        Each derives from one of the slot classes in `ctxkit.spec` and has a field `kind: Literal["name"]` without
        default. Two plugins that bring the same kind for the same slot clash: the first, by the name of the entry
        point, stays, and the other is reported.
        """

    @hookspec
    def ctxkit_check(self, recipe: Mapping[str, object]) -> Iterable[Fault]:
        """Return what is wrong with a recipe by the rules of this plugin, after every rule of the core has passed.

        `recipe` holds plain values, resolved. A fault's `path` starts at the top of the recipe.
        """

    @hookspec(firstresult=True)
    def ctxkit_make_model(self, request: ModelRequest) -> PreTrainedModel | None:
        """Return the model of a stage, or None to leave it to the next plugin.

        The first answer wins; the core's own, `AutoModelForCausalLM`, comes last. The core then compares the rotary
        buffers with what the recipe asked for, whoever made the model.
        """

    @hookspec(firstresult=True)
    def ctxkit_make_trainer(self, request: TrainerRequest) -> SFTTrainer | None:
        """Return the trainer of a stage, or None to leave it to the next plugin.

        The first answer wins; the core's own, TRL's `SFTTrainer`, comes last.
        """

    @hookspec
    def ctxkit_run_started(self, event: RunStarted) -> None:
        """Act when a run begins or continues, before any data is read. In the first process only."""

    @hookspec
    def ctxkit_stage_finished(self, event: StageFinished) -> None:
        """Act when a stage is trained, saved and evaluated. In the first process only."""

    @hookspec
    def ctxkit_run_finished(self, event: RunFinished) -> None:
        """Act when every stage is finished, before the reports. In the first process only."""

    @hookspec
    def ctxkit_report(self, run_dir: Path) -> str | None:
        """Report on a run: write what you like into its directory, return text for stdout or None.

        Called when a run is finished and when a finished one is asked for again, in the first process only; and by
        `ctxkit report RUN`, also while the run goes on.
        """

    @hookspec
    def ctxkit_compare(self, run_dirs: tuple[Path, ...], output: Path) -> str | None:
        """Compare several runs: write a page to `output`, return text for stdout or None.

        Asked for by `ctxkit report RUN RUN`; any of them may still be going.
        """

    @hookspec
    def ctxkit_data_report(self, run_dir: Path) -> str | None:
        """Show the prepared data of a run directory: write a page into it, return text for stdout or None.

        `data.json` there names the folder of each stage below `data/`; see `docs/run-directory.md` for what is in it.
        Asked for by `ctxkit data RECIPE --show`; training may not have begun.
        """

    @hookspec
    def ctxkit_sweep_report(self, sweep_dir: Path) -> str | None:
        """Draw a sweep: write what you like into its directory, return text for stdout or None.

        `sweep.json` there holds the points and the pooled results; see `docs/run-directory.md`.
        """

    @hookspec(firstresult=True)
    def ctxkit_plan(self, request: PlanRequest) -> PlanAnswer | None:
        """Return how a recipe fits some hardware, or None to leave it to the next plugin.

        The first answer wins; ctxkit's own planner comes last. Asked for by `ctxkit plan` and, for advice, when a run
        ends for want of memory; it must be quick and must not import the training stack.
        """

    @hookspec
    def ctxkit_provenance(self) -> Mapping[str, str]:
        """Return facts to keep in `provenance.json` under this plugin's name; never a secret."""
