"""What a run does when it is typed again: what was asked for, and whether a changed recipe may go on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ctxkit import fingerprint
from ctxkit.errors import ResumeError
from ctxkit.fingerprint import Change, Fingerprint, Kind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

MAX_CHANGES_SHOWN = 10
FINISHED, INTERRUPTED = "finished", "interrupted"


@dataclass(frozen=True)
class Resume:
    """What was typed about going on."""

    where: str = "auto"
    """`auto` goes on where something is to go on with, `must` refuses where nothing is, `never` where something is;
    anything else is a checkpoint: its folder, or STAGE/checkpoint-N."""
    allow_drift: bool = False
    """Go on with other rows, another order or another component; what drifted is recorded."""
    on_change: Literal["keep", "reset"] | None = None
    """Of a changed schedule: the checkpoint's own goes on, or the new values hold from its step on."""
    quick: bool = False
    """Compare the sizes of a checkpoint's files, not what is in them."""

    @property
    def checkpoint(self) -> str | None:
        """The checkpoint that was asked for, as it was typed."""
        return self.where if self.where not in ("auto", "must", "never") else None


AUTO = Resume()


@dataclass(frozen=True)
class Decision:
    """What becomes of a changed recipe."""

    recipe: dict[str, Any]
    """What the run goes on with, as plain values."""
    drifted: tuple[Change, ...] = ()
    """What was trained by another value."""
    same: bool = False
    """It is, in every word, what the directory holds."""
    components: tuple[str, ...] = ()
    """What was trained by other code."""
    said: tuple[str, ...] = ()
    """What a person should read."""


def decide(
    old: Mapping[str, Any], new: Fingerprint, stages: Mapping[str, str], resume: Resume, where: Path
) -> Decision:
    """Return what becomes of a changed recipe.

    Args:
        old: The plain recipe that the directory holds.
        new: What is to be run.
        stages: Of each stage that was begun, `finished` or `interrupted`.
        resume: What was typed.
        where: The run directory, for messages.

    Raises:
        ResumeError: it may not go on; names each change with its old and new value.
    """
    found = _of_begun(fingerprint.changes(old, new), new, stages)
    drifted = tuple(change for change in found if change.kind is Kind.ORDER)
    scheduled = [change for change in found if change.kind is Kind.SCHEDULE]
    if drifted and not resume.allow_drift:
        raise another_recipe(where, [*map(str, found)])
    if scheduled and resume.on_change is None:
        raise ResumeError(
            "\n  ".join([f"the schedule changed under the run in {where}:", *_shown([*map(str, scheduled)])]),
            "--on-change keep   goes on by the values that it began with\n"
            "--on-change reset  lets the new values hold from its checkpoint on\n"
            "or undo the change, or start a new run with --run-dir",
        )
    kept = {name for name in stages if stages[name] == FINISHED or resume.on_change == "keep"}
    recipe = _with_schedules_of(old, new, kept)
    same = recipe == fingerprint.filled(old, new.model)
    return Decision(recipe, drifted, same, said=tuple(_told(scheduled, stages, resume)))


def another_recipe(where: Path, changes: Sequence[str]) -> ResumeError:
    """Return the refusal of a recipe that trains something else."""
    return ResumeError(
        "\n  ".join([f"{where} holds a run of another recipe:", *_shown(changes)]),
        "undo the change to continue that run, start a new one with --run-dir, or go on all the same, which is "
        "recorded, with --allow-drift",
    )


def _of_begun(found: Sequence[Change], new: Fingerprint, stages: Mapping[str, str]) -> list[Change]:
    """Return the changes of what something was trained by, but for how rows are split, which each stage judges."""
    trained = bool((new.recipe.get("tokenizer") or {}).get("train"))
    return [
        change
        for change in found
        if change.kind is not Kind.BATCH and not fingerprint.unbegun(change, stages, tokenizer_of_all=trained)
    ]


def _with_schedules_of(old: Mapping[str, Any], new: Fingerprint, kept: set[str]) -> dict[str, Any]:
    """Return the new recipe, some of its stages with the schedule that they began with."""
    recipe = fingerprint.plain(new.recipe)
    before = {stage["name"]: fingerprint.schedule(stage) for stage in old["stages"] if stage["name"] in kept}
    made = [
        fingerprint.with_schedule(stage, before[stage["name"]]) if _rescheduled(stage, before) else stage
        for stage in recipe["stages"]
    ]
    return {**recipe, "stages": made}


def _rescheduled(stage: Mapping[str, Any], before: Mapping[str, Mapping[str, Any]]) -> bool:
    own = before.get(stage["name"])
    return own is not None and bool(fingerprint.other_schedule(dict(own), fingerprint.schedule(stage)))


def _told(scheduled: Sequence[Change], stages: Mapping[str, str], resume: Resume) -> list[str]:
    """Return a line about each stage whose schedule changed."""
    lines = []
    for name in dict.fromkeys(change.stage for change in scheduled if change.stage):
        keys = ", ".join(change.path[-1] for change in scheduled if change.stage == name)
        if stages[name] == FINISHED:
            lines.append(f"note: stage {name} is finished; it stays as it was trained, with the {keys} of then")
        elif resume.on_change == "keep":
            lines.append(f"note: stage {name} goes on with the {keys} that it began with")
    return lines


def _shown(changes: Sequence[str]) -> list[str]:
    shown = list(changes[:MAX_CHANGES_SHOWN])
    return [*shown, f"... and {len(changes) - len(shown)} more"] if len(changes) > len(shown) else shown
