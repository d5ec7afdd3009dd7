"""What evals measured, handed to the trackers that `train.report_to` names, by transformers' own callbacks."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from transformers import TrainerControl, TrainerState, TrainingArguments
from transformers.integrations.integration_utils import (
    TensorBoardCallback,
    default_logdir,
    get_reporting_integration_callbacks,
)
from trl import SFTTrainer

from ctxkit.rundir import RunDirectory
from ctxkit.spec import EvalReport, Measurement
from ctxkit.train.progress import say


def log_reports(args: TrainingArguments, steps: int, reports: Sequence[EvalReport]) -> None:
    """Send every measurement to every tracker, at the last step of its stage; a tracker that fails costs nothing.

    Args:
        args: Those of the stage, `report_to` and `run_name` among them.
        steps: Optimizer steps that the stage has taken.
        reports: Of its evals.
    """
    logs = dict(_named(reports))
    state = TrainerState(global_step=steps, is_world_process_zero=True, is_local_process_zero=True)
    for tracker in get_reporting_integration_callbacks(args.report_to) if logs else ():
        callback = tracker()
        if isinstance(callback, TensorBoardCallback) and callback.logging_dir is None:
            callback.logging_dir = _beside_training(args)
        try:
            callback.on_log(args, state, TrainerControl(), logs=dict(logs))
            if isinstance(callback, TensorBoardCallback):
                callback.on_train_end(args, state, TrainerControl())  # closes its file
        except Exception as error:  # noqa: BLE001 - a tracker's own code and network
            say(f"note: {tracker.__name__} did not take the evals: {error}")


@contextmanager
def one_wandb_run(directory: RunDirectory, report_to: Sequence[str]) -> Iterator[None]:
    """Have every attempt at a run, and every stage of it, be one run of Weights & Biases, unless somebody chose one.

    transformers' callback starts one without an id, so that an attempt that goes on would be another.
    """
    if "wandb" not in report_to or "WANDB_RUN_ID" in os.environ:
        yield
        return
    known = directory.status().get("wandb_run_id") or uuid4().hex[:8]
    directory.update(wandb_run_id=known)
    added = {"WANDB_RUN_ID": known} | ({} if "WANDB_RESUME" in os.environ else {"WANDB_RESUME": "allow"})
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def go_on(trainer: SFTTrainer, step: int) -> None:
    """Have TensorBoard write beside the attempt before, in place of what that one logged after the checkpoint."""
    for callback in trainer.callback_handler.callbacks:
        if isinstance(callback, TensorBoardCallback) and trainer.is_world_process_zero():
            callback.logging_dir = callback.logging_dir or _beside_training(trainer.args)
            callback.tb_writer = callback._SummaryWriter(log_dir=callback.logging_dir, purge_step=step + 1)  # noqa: SLF001 - the class that it found


def _beside_training(args: TrainingArguments) -> str:
    """Return the newest of TensorBoard's folders of a stage; it only chooses one where training begins."""
    folders = [path for path in Path(str(args.output_dir), "runs").glob("*") if path.is_dir()]
    return str(
        max(folders, key=lambda path: path.stat().st_mtime, default=Path(str(args.output_dir), default_logdir()))
    )


def _named(reports: Sequence[EvalReport]) -> Iterator[tuple[str, float]]:
    """Yield each value by a name such as `eval_passkey_accuracy_4096`; a second eval of a kind is `passkey_2`."""
    seen: Counter[str] = Counter()
    for report in reports:
        seen[report.task] += 1
        number = f"_{seen[report.task]}" if seen[report.task] > 1 else ""
        for item in report.measurements:
            yield _name(report.task, number, item), item.value


def _name(task: str, number: str, item: Measurement) -> str:
    """Return the name of a value; `eval_` at the front is how transformers tells evals from training."""
    own = item.metric.removeprefix(task).removeprefix("_")
    parts = ["eval", f"{task}{number}", *([own] if own else [])]
    parts += [str(item.length)] if item.length else []
    parts += [f"depth_{item.depth:g}"] if item.depth is not None else []
    parts += [f"from_{item.positions[0]}"] if item.positions else []
    return "_".join(parts)
