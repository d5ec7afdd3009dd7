"""The run: a recipe's stages in a row, each recognised when it is already finished."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import PreTrainedConfig

from ctxkit import checks, identity, launch, provenance
from ctxkit.errors import CtxkitError, ExitCode, StoppedError
from ctxkit.fingerprint import Fingerprint
from ctxkit.host import Host
from ctxkit.layouts import layout
from ctxkit.masking import masked
from ctxkit.reading import Located
from ctxkit.recipe import MODEL
from ctxkit.registry import collect
from ctxkit.resuming import AUTO, Resume
from ctxkit.rundir import RunDirectory, read_json, wait_for, write_json
from ctxkit.settings import seed, tokens_per_step, written
from ctxkit.spec import Context, RunFinished, RunStarted
from ctxkit.surroundings import settle
from ctxkit.train.deep import check_sources, check_windows
from ctxkit.train.guarded import guarded
from ctxkit.train.layout import own_layout
from ctxkit.train.memory_errors import killed_before
from ctxkit.train.model import base_config, original_window
from ctxkit.train.progress import say, track
from ctxkit.train.pulse import FOLDER, Pulse, records
from ctxkit.train.signals import StopSignal
from ctxkit.train.stage import Run, run_stage
from ctxkit.train.start import StartAdapter, adapter_folder, check_shape, start_adapter
from ctxkit.train.tokenizer import make_tokenizer
from ctxkit.train.trackers import one_wandb_run
from ctxkit.train.trainer import CoreHooks, sft_config


def run(
    recipe: str | Path, run_dir: str | Path | None = None, sets: Sequence[str] = (), resume: Resume = AUTO
) -> RunDirectory:
    """Run a recipe file from Python, as `ctxkit run` does; return its run directory.

    Raises:
        CtxkitError: with `exit_code` saying what kind of thing went wrong.
    """
    host = Host()
    located = checks.load(Path(recipe), collect(host), host, tuple(sets))
    directory = RunDirectory(Path(run_dir) if run_dir else Path("runs") / located.recipe.name)
    return run_located(located, host, directory, ["ctxkit.train.run", str(recipe), *sets], resume)


def run_located(
    located: Located, host: Host, directory: RunDirectory, command: list[str], resume: Resume = AUTO
) -> RunDirectory:
    """Run a checked recipe in a run directory; finished work is kept, an interrupted stage goes on at its checkpoint.

    Raises:
        CtxkitError: with `exit_code` saying what kind of thing went wrong.
    """
    for taken_out in settle():
        say(taken_out)
    _refuse_idle_devices(located)
    _refuse_lonely_deepspeed(located)
    if not directory.begun:
        _say_other_size(located)
    # Its own bars for files of a second or less would tear ours apart.
    transformers.utils.logging.disable_progress_bar()
    host.register(CoreHooks(), "core")
    stop = StopSignal(Pulse(directory.path / FOLDER, launch.rank()))
    used = _used(located)
    own = identity.fingerprint(located.recipe, used)
    if launch.rank() != 0:
        wait_for(directory.path / "recipe.yaml")
        located = _decided(located, directory, own, resume)
        with guarded(located, host, directory, stop):
            return _run_stages(located, host, directory, used, stop, resume)
    with directory.locked():
        _tell_of_the_last(directory)
        for line in directory.claim(own, resume):
            say(line)
        located = _decided(located, directory, own, resume)
        try:
            with guarded(located, host, directory, stop):
                _begin(located, host, directory, used, command)
                with one_wandb_run(directory, _trackers(located)):
                    return _run_stages(located, host, directory, used, stop, resume)
        except BaseException as error:
            _record_end(directory, error)
            raise


def _trackers(located: Located) -> list[str]:
    """Return the names that the stages report to."""
    named = [stage.train.get("report_to") or [] for stage in located.recipe.stages]
    return [name for each in named for name in ([each] if isinstance(each, str) else each)]


def _decided(located: Located, directory: RunDirectory, own: Fingerprint, resume: Resume) -> Located:
    """Return a recipe whose interrupted stages have the schedule that they go on by."""
    decision = directory.settled(own, resume)
    if decision is None:
        return located
    trained = {stage["name"]: stage["train"] for stage in decision.recipe["stages"]}
    stages = [
        stage.model_copy(update={"train": _unmasked(stage.train, trained[stage.name])})
        for stage in located.recipe.stages
    ]
    return replace(located, recipe=located.recipe.model_copy(update={"stages": tuple(stages)}))


def _unmasked(own: Mapping[str, Any], decided: Mapping[str, Any]) -> dict[str, Any]:
    """Return the decided values, each that is only masked there as the recipe has it."""
    return {key: own[key] if key in own and masked(own[key]) == value else value for key, value in decided.items()}


def _used(located: Located) -> dict[str, str]:
    """Return what a run is made with, that of an adapter of the hub included."""
    used, name = identity.components(located.recipe), located.recipe.model.adapter_name_or_path
    if name and identity.ADAPTER not in used:
        used[identity.ADAPTER] = identity.adapter_hash(adapter_folder(name))
    return used


def _begin(located: Located, host: Host, directory: RunDirectory, used: dict[str, str], command: list[str]) -> None:
    """Write down what runs, with what, and tell the plugins."""
    made = {**provenance.provenance(host.used, command), "from_plugins": dict(host.ask("ctxkit_provenance"))}
    before = read_json(directory.path / "provenance.json")
    earlier = [*before.pop("earlier_attempts", []), before] if before else []
    write_json(directory.path / "provenance.json", {**made, "earlier_attempts": earlier})
    write_json(directory.path / "origins.json", written(located))
    directory.update(
        name=located.recipe.name,
        description=located.recipe.description,
        status="running",
        result=located.recipe.result_stage.name,
        components=used,
        command=" ".join(command),
        seed=seed(located.recipe.stages[0]),
        num_processes=(directory.begun and directory.status().get("num_processes")) or launch.world_size(),
    )
    directory.data_index.unlink(missing_ok=True)
    host.tell("ctxkit_run_started", event=RunStarted(directory.path, identity.plain(located.recipe)))


def _run_stages(
    located: Located, host: Host, directory: RunDirectory, used: dict[str, str], stop: StopSignal, resume: Resume
) -> RunDirectory:
    """Run every stage in order, then tell the plugins that the run is finished."""
    recipe, first = located.recipe, located.recipe.stages[0]
    if launch.world_size() > 1:
        # Building it joins the processes, which must not wait for one another while the first one prepares.
        with own_layout():
            sft_config(located, first, directory.stage(first.name) / "checkpoints")
    context = Context(seed=seed(first), track=track)
    if launch.rank() != 0:
        wait_for(directory.tokenizer)
    tokenizer = make_tokenizer(recipe, context, directory.tokenizer)
    config = base_config(recipe.model, tokenizer)
    context = replace(
        context, tokenizer=tokenizer, original_max_position_embeddings=original_window(recipe.model, config)
    )
    start = start_adapter(recipe.model, config, context.original_max_position_embeddings)
    if start is not None:
        check_shape(located, start)
    if launch.rank() == 0:
        check_sources(recipe, context)
        directory.update(downloads=_downloads(config, start))
    shared = Run(located, host, directory, used, tokenizer, config, context, stop, start, resume)
    check_windows(located, lambda stage: shared.rope(stage, context))
    for stage in recipe.stages:
        run_stage(shared, stage)
        if launch.rank() == 0:
            _record_stages(located, directory, context)
    if launch.rank() == 0:
        directory.update(status="done", error=None, exit_code=int(ExitCode.DONE))
        event = RunFinished(directory.path, directory.model(recipe.result_stage.name))
        host.tell("ctxkit_run_finished", event=event)
    return directory


def _downloads(config: PreTrainedConfig, start: StartAdapter | None) -> dict[str, str]:
    """Return the commit of the model, with which its tokenizer comes, and of the adapter, where they are of the hub."""
    found = {"model": getattr(config, "_commit_hash", None)}
    if start is not None and start.folder.parent.name == "snapshots":
        found["adapter"] = start.folder.name
    return {name: commit for name, commit in found.items() if commit}


def _record_stages(located: Located, directory: RunDirectory, context: Context) -> None:
    """Write into `run.json` what the finished stages did, the untouched model first where it was measured."""
    names = (MODEL, *(stage.name for stage in located.recipe.stages))
    records = [read_json(directory.stage_record(name)) for name in names]
    window = context.original_max_position_embeddings
    directory.update(original_window=window, stages=[record for record in records if record])


def _refuse_idle_devices(located: Located) -> None:
    """Refuse to use one of several GPUs, which is never what was meant.

    Raises:
        CtxkitError: with exit code 2 and the line that uses all of them.
    """
    count = torch.cuda.device_count()
    if count > 1 and launch.world_size() == 1:
        line = launch.launch_line(str(located.file), count, located.recipe.launch.config_file)
        raise CtxkitError(
            f"this machine has {count} GPUs, and one process would use one of them",
            f"start them all:  {line}\nor choose one:   CUDA_VISIBLE_DEVICES=0 ctxkit run {located.file}",
            exit_code=ExitCode.RECIPE,
        )


def _refuse_lonely_deepspeed(located: Located) -> None:
    """Refuse DeepSpeed in a process that no launcher started: it would look for MPI while the model loads.

    Raises:
        CtxkitError: with exit code 2 and the line to type.
    """
    if "MASTER_ADDR" not in os.environ and any(layout(located, stage).deepspeed for stage in located.recipe.stages):
        hint = f"type  ctxkit launch {located.file} --num-processes 1"
        raise CtxkitError("DeepSpeed needs a launcher, for one process too", hint, exit_code=ExitCode.RECIPE)


def _say_other_size(located: Located) -> None:
    """Say so when the recipe was made for another number of processes: the tokens of a step change with it."""
    made_for, found = located.recipe.launch.num_processes, launch.world_size()
    if made_for != found:
        stage = located.recipe.result_stage
        per_step = [f"{tokens_per_step(located, stage, count):,}" for count in (found, made_for)]
        say(
            f"note: launch.num_processes is {made_for}, and {found} run here: "
            f"stage {stage.name} sees {per_step[0]} tokens a step, not {per_step[1]}"
        )


def _tell_of_the_last(directory: RunDirectory) -> None:
    """Say where the attempt before was seen last, where it was ended without a word, and forget its processes."""
    folder = directory.path / FOLDER
    if directory.status().get("status") == "running":  # and the lock was free: nobody wrote down how it ended
        say("note: the attempt before this one was killed; it is gone on with")
        for line in killed_before(records(folder)):
            say(f"note: {line}")
    shutil.rmtree(folder, ignore_errors=True)


def _record_end(directory: RunDirectory, error: BaseException) -> None:
    """Write into `run.json` how the run ended, so that a scheduler need not read logs."""
    if not (directory.path / "recipe.yaml").exists():
        return  # the directory is gone: a new one with this file alone would be no run
    with suppress(OSError):  # a disk that is full, and what ended the run is what is to be said
        directory.update(
            status=error.exit_code.name.lower() if isinstance(error, StoppedError) else "failed",
            error=str(error),
            exit_code=int(error.exit_code if isinstance(error, CtxkitError) else ExitCode.FAILED),
        )
