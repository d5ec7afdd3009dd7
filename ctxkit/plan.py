"""A checked recipe as text or JSON: every value with its origin, tokens per step, and the line that launches it.

What it needs on given hardware, a planner says: whichever plugin answers `ctxkit_plan`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ctxkit import checks
from ctxkit.errors import CtxkitError
from ctxkit.launch import launch_line
from ctxkit.layouts import layout
from ctxkit.plan_request import plan_request
from ctxkit.recipe import MODEL, Stage
from ctxkit.settings import effective, seed, sft_settings, tokens_per_step, written
from ctxkit.spec.planning import Hardware, PlanAnswer

if TYPE_CHECKING:
    from ctxkit.host import Host
    from ctxkit.reading import Located
    from ctxkit.rundir import RunDirectory

ADVICE_LINES = 10
"""How much is said after a run that ran out of memory."""


def on_hardware(located: Located, host: Host, hardware: Hardware, directory: RunDirectory) -> PlanAnswer:
    """Return what a planner says of a recipe on some hardware; `directory` may hold its prepared data.

    Raises:
        CtxkitError: no plugin plans, or what is asked cannot be planned, with the reason.
    """
    answer = host.first("ctxkit_plan", request=plan_request(located, "plan", hardware, directory, network=True))
    if not isinstance(answer, PlanAnswer):
        raise CtxkitError("no plugin plans", "ctxkit's own does: see `ctxkit plugins` for why it is not loaded")
    return answer


def parameters(located: Located, host: Host) -> PlanAnswer | None:
    """Return how large the model is, where its config is at hand without the network and a plugin knows its kind."""
    try:
        answer = host.first("ctxkit_plan", request=plan_request(located, "parameters"))
    except CtxkitError:
        return None
    return answer if isinstance(answer, PlanAnswer) else None


def advice(
    located: Located,
    host: Host,
    *,
    gpu: str | None = None,
    gpu_bytes: int | None = None,
    gpus: int | None = None,
) -> str:
    """Return what would make a run fit that ended for want of memory: at most ten lines, or an empty text.

    `gpu` is the name that the driver has for the device, `gpu_bytes` its memory, `gpus` the number of processes. Reads
    no network and never raises: the run has an error of its own to tell.
    """
    try:
        hardware = Hardware(gpu=gpu, gpus=gpus, gpu_bytes=gpu_bytes)
        answer = host.first("ctxkit_plan", request=plan_request(located, "advice", hardware))
        return "\n".join(answer.text.splitlines()[:ADVICE_LINES]) if isinstance(answer, PlanAnswer) else ""
    except Exception:  # noqa: BLE001 - whatever is wrong with the advice, the error comes first
        return ""


def plan(located: Located, sizes: PlanAnswer | None = None) -> dict[str, Any]:
    """Return the plan as plain values; lengths and counts in tokens. `sizes` are the parameters, where known."""
    recipe, original = located.recipe, checks.original_window(located)
    launch, counted = recipe.launch, dict(sizes.values) if sizes else {}
    each = counted.get("stages", {})
    return {
        "name": recipe.name,
        "model": recipe.model.name_or_path or f"fresh {(recipe.model.config or {}).get('model_type')}",
        "parameters": counted.get("parameters"),
        "original_window": original,
        "num_processes": launch.num_processes,
        "launch": launch_line(
            str(located.file),
            launch.num_processes,
            launch.config_file,
            num_machines=launch.num_machines,
            deepspeed=any(layout(located, stage).deepspeed for stage in recipe.stages),
        ),
        "result": recipe.result_stage.name,
        "stages": [{**_stage(located, stage, original), **each.get(stage.name, {})} for stage in recipe.stages],
        "values": written(located),
    }


def render(planned: dict[str, Any]) -> str:
    """Return the plan for a terminal."""
    original = planned["original_window"]
    window = f"a window of {original} tokens" if original else "the window that its config says"
    size = f" of {planned['parameters']:,} parameters" if planned["parameters"] else ""
    lines = [f"{planned['name']}: {planned['model']}{size}, {window} before", ""]
    rows = [["stage", "from", "rope", "window", "chunk", "tokens/step", "steps", "tokens"]]
    rows += [[_shown(stage[key]) for key in _COLUMNS] for stage in planned["stages"]]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines += ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    for stage in planned["stages"]:
        if stage["curriculum"]:
            lines += ["", f"curriculum of stage {stage['name']} ({stage['curriculum']['kind']}):"]
            lines += [f"  {phase}" for phase in stage["curriculum"]["phases"]]
    lines += ["", f"the outcome is the model of stage {planned['result']}", "", "launch:", f"  {planned['launch']}"]
    lines += ["", "values and where they come from:"]
    shown = [(f"  {key} = {_one_line(value['value'])}", value["origin"]) for key, value in planned["values"].items()]
    width = min(max(len(text) for text, _ in shown), 80)
    lines += [f"{text.ljust(width)}  {origin}" for text, origin in shown]
    return "\n".join(lines)


_COLUMNS = ("name", "from", "rope", "window", "chunk_length", "tokens_per_step", "steps", "tokens")


def _stage(located: Located, stage: Stage, original: int | None) -> dict[str, Any]:
    settings = sft_settings(located, stage)
    parent = located.recipe.parent(stage)
    steps = int(effective(settings, "max_steps"))
    per_step = tokens_per_step(located, stage, located.recipe.launch.num_processes)
    return {
        "name": stage.name,
        "from": parent.name if parent else MODEL,
        "rope": _rope(stage, original),
        "window": stage.rope.window(original) if stage.rope and original else None,
        "chunk_length": stage.data.row_length,
        "tokens_per_step": per_step,
        "steps": steps if steps >= 0 else None,
        "tokens": steps * per_step if steps >= 0 else None,
        "seed": seed(stage),
        "curriculum": _curriculum(stage),
    }


def _curriculum(stage: Stage) -> dict[str, Any] | None:
    """Return what can be said of the phases of a stage before its data is prepared."""
    if stage.curriculum is None:
        return None
    return {"kind": stage.curriculum.kind, "phases": list(stage.curriculum.outline())}


def _rope(stage: Stage, original: int | None) -> str | None:
    if stage.rope is None:
        return None
    kind = stage.rope.kind
    if stage.rope.factor is None and original is None:
        return f"{kind} to {stage.rope.target_length}"
    return f"{kind} x{stage.rope.scale(original or 0):g}"


def _shown(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _one_line(value: object) -> str:
    text = " ".join(str(value).split())
    limit = 60
    return text if len(text) <= limit else text[: limit - 3] + "..."
