"""What a stage goes on with: its checkpoint, as many rows a step as before, and the schedule that holds from there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from accelerate.utils import broadcast_object_list
from trl import SFTConfig

from ctxkit import fingerprint, launch
from ctxkit.errors import DiskError, ResumeError
from ctxkit.recipe import Stage
from ctxkit.resuming import Resume
from ctxkit.rundir import RunDirectory, read_json, write_json
from ctxkit.settings import ACCUMULATION
from ctxkit.train import checkpoints, universal
from ctxkit.train.curriculum import readers
from ctxkit.train.progress import say


@dataclass(frozen=True)
class Going:
    """How a stage goes on, the same in every process."""

    checkpoint: str | None
    """The folder, or None for a stage that begins."""
    accumulation: int
    """Micro-batches of a step."""
    reset: bool = False
    """The schedule of the recipe takes the place of the checkpoint's."""
    fresh: bool = False
    """The optimizer is another, and begins without a state."""
    universal: str | None = None
    """The folder that DeepSpeed loads in place of the checkpoint, where that is of another number of processes."""


@dataclass(frozen=True)
class Attempt:
    """What is about to train a stage."""

    directory: RunDirectory
    stage: Stage
    args: SFTConfig
    data: str
    """The key of its rows."""
    resume: Resume

    @property
    def record(self) -> Path:
        """What earlier attempts trained it by."""
        return self.directory.begun_record(self.stage.name)

    @property
    def schedule(self) -> dict[str, Any]:
        """What the recipe says of its schedule."""
        return fingerprint.schedule({"train": dict(self.stage.train), "curriculum": self.stage.curriculum})

    @property
    def backend(self) -> str:
        """Who keeps the state of the optimizer: in one piece, or in a shard a process."""
        return "deepspeed" if self.args.deepspeed else "fsdp" if self.args.fsdp else "plain"

    def rows(self, accumulation: int) -> int:
        """Return the rows of a step."""
        return int(self.args.per_device_train_batch_size) * accumulation * readers(self.args)

    def drift(self, what: str, hint: str, step: int) -> None:
        """Write down that steps from here on are trained by something else.

        Raises:
            ResumeError: that was not allowed.
        """
        if not self.resume.allow_drift:
            raise ResumeError(what, hint)
        say(f"note: {what}; it goes on all the same, from step {step}, as --allow-drift says")
        self.directory.record_drift([what], self.stage.name, step)


def going(attempt: Attempt) -> Going:
    """Return how a stage goes on, and write down by what it is trained from now on.

    Raises:
        ResumeError: its checkpoint was made from other rows, cannot be read, or has other rows a step.
        DiskError: there is no room to convert the checkpoint of another number of processes.
    """
    found: list[Any] = [None]
    if launch.rank() == 0:
        try:
            found = [_going(attempt)]
        except (ResumeError, DiskError) as error:
            found = [(type(error), error.message, error.hint)]
    broadcast_object_list(found)
    if not isinstance(found[0], Going):
        kind, message, hint = found[0]
        raise kind(message, hint)
    return found[0]


def _going(attempt: Attempt) -> Going:
    begun = read_json(attempt.record)
    checkpoint = _found(attempt)
    step = checkpoints.step(checkpoint) if checkpoint else 0
    if checkpoint:
        _check_data(attempt, begun, step)
        _check_backend(attempt, begun)
    accumulation = _accumulation(attempt, begun, step if checkpoint else None)
    schedules, changed = _schedules(attempt, begun, step)
    going = Going(
        str(checkpoint) if checkpoint else None,
        accumulation,
        reset=bool(changed) and checkpoint is not None,
        fresh=any(change.path[-1] in fingerprint.OPTIMIZER for change in changed),
    )
    _tell(attempt, going, changed)
    going = _readable(attempt, going)
    made_by = {
        "num_processes": attempt.args.world_size,
        "data": attempt.data,
        "rows_per_step": attempt.rows(accumulation),
        ACCUMULATION: attempt.args.gradient_accumulation_steps,
        "backend": attempt.backend,
        "schedules": schedules,
    }
    write_json(attempt.record, made_by)
    return going


def _found(attempt: Attempt) -> Path | None:
    """Return the checkpoint to go on from."""
    folder, quick = attempt.record.parent, attempt.resume.quick
    asked, path = attempt.directory.asked(attempt.resume), None
    if asked is not None and asked[0] == attempt.stage.name:
        if reason := checkpoints.broken(asked[1], quick=quick):
            raise ResumeError(f"{asked[1]} is not whole: {reason}", "choose another, or leave out --resume")
        path, said = asked[1], checkpoints.back_to(asked[1])
    else:
        path, said = checkpoints.newest(folder, quick=quick)
    for line in said:
        say(line)
    finished = any(attempt.directory.path.glob("stages/*/stage.json"))
    if path is None and attempt.resume.where == "must" and not finished:
        raise ResumeError(f"no checkpoint in {folder} is whole", "leave out --resume must to begin this stage again")
    return path


def _check_data(attempt: Attempt, begun: dict[str, Any], step: int) -> None:
    if begun.get("data", attempt.data) != attempt.data:
        folder = attempt.record.parent
        attempt.drift(
            f"{folder}/checkpoint-{step} was made with other data: the files, the commit or the dataset that a source "
            "reads changed",
            f"bring them back, go on all the same with --allow-drift, or delete {folder} to begin this stage again",
            step,
        )


def _check_backend(attempt: Attempt, begun: dict[str, Any]) -> None:
    """Refuse a checkpoint whose optimizer is kept in another way than this attempt can read.

    Raises:
        ResumeError: it is.
    """
    before = begun.get("backend", attempt.backend)
    if before != attempt.backend:
        said = f"the checkpoints of stage {attempt.stage.name} were written by {before}, and this is {attempt.backend}"
        raise ResumeError(said, "start it as before, or begin the stage again in another --run-dir")


def _readable(attempt: Attempt, going: Going) -> Going:
    """Return how a stage goes on whose optimizer lies in shards of another number of processes.

    Raises:
        DiskError: there is no room to convert the shards.
        ResumeError: they cannot be converted, or processes share rows, with which it was never seen to work.
    """
    if going.checkpoint is None or attempt.backend != "deepspeed":
        return going
    checkpoint = Path(going.checkpoint)
    # Not what began: the attempt after that one may have gone on with others, and been killed before it saved.
    before = checkpoints.random_states(checkpoint)
    if before == attempt.args.world_size:
        return going
    if readers(attempt.args) != attempt.args.world_size:
        raise ResumeError(
            f"{checkpoint} was made with {before} processes, and now there are {attempt.args.world_size}: DeepSpeed "
            "keeps the optimizer in one shard for each process, and its checkpoint is not converted for processes that "
            "share rows (`parallelism_config`)",
            f"start {before} processes",
        )
    return replace(going, universal=str(universal.convert(checkpoint, before, attempt.args.world_size)))


def _accumulation(attempt: Attempt, begun: dict[str, Any], step: int | None) -> int:
    """Return the micro-batches that keep the rows of a step as they were, whatever the processes are."""
    own = int(attempt.args.gradient_accumulation_steps)
    wanted = _rows_before(attempt, begun)
    if wanted == attempt.rows(own):
        return own
    accumulation, rest = divmod(wanted, attempt.rows(1))
    stated = begun.get(ACCUMULATION, own) != own
    if accumulation and not rest and not stated:
        return accumulation
    what = (
        f"a step of stage {attempt.stage.name} had {wanted} rows, and {launch.processes(attempt.args.world_size)} with "
        f"{attempt.args.per_device_train_batch_size} each have {attempt.rows(own)}: rows would differ"
    )
    if step is not None:
        attempt.drift(what, _ways(attempt, wanted), step)
    else:
        say(f"note: {what}")
    return own


def _rows_before(attempt: Attempt, begun: dict[str, Any]) -> int:
    """Return the rows of a step as the stage began, or as it would have when the run did."""
    if "rows_per_step" in begun:
        return int(begun["rows_per_step"])
    world = attempt.args.world_size
    before = begun.get("num_processes") or attempt.directory.status().get("num_processes") or world
    return int(attempt.rows(int(attempt.args.gradient_accumulation_steps)) * before / world)


def _ways(attempt: Attempt, wanted: int) -> str:
    """Return what would keep the rows of a step."""
    batch, shared = int(attempt.args.per_device_train_batch_size), attempt.args.world_size // readers(attempt.args)
    counts = [str(number * shared) for number in range(1, wanted // batch + 1) if wanted % (batch * number) == 0]
    ways = [f"start {' or '.join([*counts[:-1], launch.processes(int(counts[-1]))])}"] if counts else []
    accumulation, rest = divmod(wanted, attempt.rows(1))
    if accumulation and not rest:
        ways.append(f"write `gradient_accumulation_steps: {accumulation}`")
    elif wanted % readers(attempt.args) == 0:
        ways.append(f"choose a per_device_train_batch_size that divides {wanted // readers(attempt.args)}")
    return ", or ".join([*ways, "go on all the same with --allow-drift"])


def _schedules(attempt: Attempt, begun: dict[str, Any], step: int) -> tuple[list[Any], list[fingerprint.Change]]:
    """Return which schedule holds from which step on, and how the one from this step on differs from that before."""
    entries = [entry for entry in begun.get("schedules", []) if entry[0] < step or not entry[0]]
    if not entries or not step:
        return [[0, attempt.schedule]], []
    changed = fingerprint.other_schedule(entries[-1][1], attempt.schedule)
    return ([*entries, [step, attempt.schedule]] if changed else entries), changed


def _tell(attempt: Attempt, going: Going, changed: list[fingerprint.Change]) -> None:
    """Say how a stage goes on.

    Raises:
        ResumeError: DeepSpeed would have to take another schedule, which it keeps to itself.
    """
    own = attempt.args.gradient_accumulation_steps
    if going.accumulation != own:
        say(
            f"note: gradient_accumulation_steps is {going.accumulation}, not {own}: with "
            f"{launch.processes(attempt.args.world_size)} that keeps the "
            f"{attempt.rows(going.accumulation)} rows of a step"
        )
    if going.checkpoint is None:
        return
    checkpoint = Path(going.checkpoint)
    say(f"continuing from {checkpoint.name}")
    if checkpoints.random_states(checkpoint) != attempt.args.world_size:
        say("note: random numbers begin anew from the seed, since every process has its own: noise of dropout differs")
    if going.reset:
        if attempt.backend == "deepspeed":
            said = "DeepSpeed restores the schedule of a checkpoint together with its optimizer"
            raise ResumeError(said, "undo the change or choose --on-change keep")
        keys = ", ".join(f"{change.path[-1]}: {change.old} -> {change.new}" for change in changed)
        say(f"the schedule is the recipe's from step {checkpoints.step(checkpoint) + 1} on: {keys}")
    if going.fresh:
        say("note: the optimizer is another one, and begins without what the one before it had gathered")
