"""A plan in words: first the answers, below them the figures."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ctxkit_planner import advice
from ctxkit_planner.memory import DEVICE_PARTS
from ctxkit_planner.shown import GIB, duration, gib, many, one_line, paragraph, seconds, share, table, yaml_lines

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ctxkit_planner.advice import Advice, Ranked
    from ctxkit_planner.plans import Plan
    from ctxkit_planner.stages import StagePlan

LISTED = 8
"""Single changes that are shown."""
ADVISED = 4
"""Changes that are named after a run that ran out of memory."""
WIDEST = 100
"""Columns of a line of advice; what is longer to write is left to `ctxkit plan`."""
ROOMY = 1.25
"""A window is worth naming when it is so much longer than the rows."""


def render(plan: Plan) -> str:
    """Return a plan for a terminal of 80 columns."""
    return "\n".join([*_head(plan), "", *_figures(plan), *_changes(plan), "", *_basis(plan)])


def brief_advice(plan: Plan) -> str:
    """Return what would help a run that ran out of memory, in at most ten lines."""
    stage = plan.largest
    if stage is None:
        return ""
    found = sorted(advice.singles(stage), key=lambda one: (one.changed.alters, -one.saved))[:ADVISED]
    needs = f"needs {gib(stage.memory.peak_bytes)} of {gib(plan.machines.usable_bytes)} GiB of a GPU"
    if not found:
        return f"by the plan, stage {stage.stage.name} {needs}; shorter rows, or a GPU with more memory, would help"
    lines = [f"by the plan, stage {stage.stage.name} {needs}; what would make it less:"]
    for one in found:
        line = f"    {one_line(one.changed.write)}"
        lines += [
            f"  {gib(one.saved)} GiB less by {_listed(one.changed.names)}",
            *([line] if len(line) <= WIDEST else []),
        ]
    return "\n".join([*lines, f"`ctxkit plan RECIPE --gpu {plan.machines.gpu.name}` says what to write, and more"])


def _head(plan: Plan) -> list[str]:
    gpus = f"{plan.machines.gpus} GPU{'s' if plan.machines.gpus > 1 else ''} {plan.machines.gpu.name}"
    lines = [f"{plan.request.recipe.get('name')} on {gpus}", ""]
    lines += paragraph("Does it fit?", _fit(plan))
    lines += paragraph("How long?", _time(plan))
    lines += paragraph("At what cost?", _cost(plan))
    return lines + paragraph("Change what?", _change(plan))


def _fit(plan: Plan) -> str:
    usable = gib(plan.machines.usable_bytes)
    if plan.largest is None:
        return "No stage takes a step."
    if plan.fits:
        host = max(stage.memory.host_bytes for stage in plan.trained) * plan.machines.beside
        where = f" (stage {plan.largest.stage.name})" if len(plan.trained) > 1 else ""
        peak = gib(plan.largest.memory.peak_bytes)
        return f"Yes: {peak} of {usable} GiB of a GPU at the peak{where}, {gib(host)} GiB of a machine's memory."
    if plan.unstartable:
        return f"No: {'; '.join(plan.unstartable)}."
    return "No. " + " ".join(_misfit(stage) for stage in plan.trained)


def _misfit(stage: StagePlan) -> str:
    machines, needed = stage.machines, stage.memory
    name = f"Stage {stage.stage.name}"
    if stage.fits:
        return f"{name} fits: {gib(needed.peak_bytes)} GiB."
    if needed.peak_bytes > machines.usable_bytes:
        return f"{name} needs {gib(needed.peak_bytes)} of {gib(machines.usable_bytes)} GiB of a GPU."
    host = needed.host_bytes * machines.beside
    return f"{name} needs {gib(host)} of {gib(machines.host_bytes)} GiB of a machine's memory."


def _time(plan: Plan) -> str:
    if not plan.trained:
        return "No time."
    reached = sorted(stage.step.mfu for stage in plan.trained)
    rate = f"{' to '.join(dict.fromkeys((share(reached[0]), share(reached[-1]))))} of the GPU's peak"
    said = "assumed" if plan.machines.mfu is None else "as typed"
    if plan.seconds is None:
        unknown = [stage for stage in plan.trained if stage.steps is None]
        each = ", ".join(f"{seconds(one.step.seconds)} a step{_in_stage(plan, one)}" for one in unknown)
        return f"{each}, at {rate} ({said}); `ctxkit data RECIPE` makes the number of steps known."
    steps = sum(stage.steps or 0 for stage in plan.trained)
    time = f"about {duration(plan.seconds)}" if plan.seconds >= 1 else duration(plan.seconds)
    said_first = time[0].upper() + time[1:] if plan.fits else f"It would take {time}"
    return f"{said_first} for {steps:,} steps, at {rate} ({said})."


def _cost(plan: Plan) -> str:
    if plan.gpu_hours is None:
        return "Not known without the number of steps."
    hours = f"{plan.gpu_hours:,.0f} GPU hours" if plan.gpu_hours >= 10 else f"{plan.gpu_hours:.1f} GPU hours"
    hours = hours if plan.gpu_hours >= 0.1 else "less than 0.1 GPU hours"
    if plan.cost is None:
        return f"{hours}; --price PER_HOUR says what that comes to."
    return f"{plan.cost:,.{0 if plan.cost >= 100 else 2}f}: {hours} at {plan.request.hardware.price:.2f} an hour."


def _change(plan: Plan) -> str:
    if plan.largest is None:
        return "Nothing."
    if plan.fits:
        return f"Nothing must change. {_room(plan)}"
    if plan.unstartable:
        multiple = "" if any(stage.exact for stage in plan.trained) else ", or a multiple of that"
        return f"The GPUs: --gpus {math.lcm(*(stage.multiple for stage in plan.trained))}{multiple}."
    misfits = [stage for stage in plan.trained if not stage.fits]
    parts = [f"Stage {stage.stage.name}: {_proposed(stage, plan.advice[stage.stage.name])}." for stage in misfits]
    found = [plan.advice[stage.stage.name] for stage in misfits]
    below = "what to write, and what else helps" if any(one.ways for one in found) else "what helps"
    return " ".join([*parts, *([f"Below: {below}."] if any(one.singles for one in found) else [])])


def _proposed(stage: StagePlan, found: Advice) -> str:
    """Return what to change in a stage: on the GPUs that were typed, and to train the same model where that is more."""
    if not found.ways:
        return _shorter(stage)
    said = [f"{_listed(one.changed.names)} ({gib(one.bytes)} GiB{_trains(one)})" for one in found.ways]
    return "; or, to train what it trains now, ".join(said)


def _trains(one: Ranked) -> str:
    return f"; {', '.join(one.changed.price)}" if one.changed.alters else ""


def _shorter(stage: StagePlan) -> str:
    window = stage.largest_window
    fits = f"rows of at most {window:,} tokens fit" if window else "no rows fit"
    return f"nothing that is known here makes it fit; {fits}"


def _room(plan: Plan) -> str:
    """Return what could be larger in the stage that needs the most."""
    stage = plan.largest
    if stage is None:
        return ""
    window, rows = stage.largest_window, advice.most_rows(stage)
    more = [f"rows of {window:,} tokens"] if window >= ROOMY * stage.tokens else []
    more += [f"{rows} rows at a time"] if rows > stage.setup.rows else []
    return f"There would be room{_in_stage(plan, stage)} for {' or '.join(more)}." if more else ""


def _in_stage(plan: Plan, stage: StagePlan) -> str:
    return f" in stage {stage.stage.name}" if len(plan.trained) > 1 else ""


def _figures(plan: Plan) -> list[str]:
    stages = plan.trained
    if not stages:
        return []
    rows = [(label, [make(stage) for stage in stages]) for label, make in _ROWS.items()]
    rows += [("", [""] * len(stages)), ("GiB of a GPU at the peak", [""] * len(stages))]
    for part in DEVICE_PARTS:
        rows.append((f"  {part}", [gib(stage.memory.device.get(part, 0.0)) for stage in stages]))
    rows.append(("  sum", [gib(stage.memory.peak_bytes) for stage in stages]))
    rows.append(("  of", [gib(plan.machines.usable_bytes)] * len(stages)))
    rows.append(("GiB of a machine", [gib(stage.memory.host_bytes * plan.machines.beside) for stage in stages]))
    rows += [("", [""] * len(stages)), ("time of a step", [seconds(stage.step.seconds) for stage in stages])]
    rows += [(f"  {part}", [_part(stage, part) for stage in stages]) for part in ("compute", "links", "update")]
    rows.append(("all steps", [_all_steps(stage) for stage in stages]))
    rows.append(("largest window that fits", [f"{stage.largest_window:,}" for stage in stages]))
    return table([stage.stage.name for stage in stages], rows)


def _all_steps(stage: StagePlan) -> str:
    return "-" if stage.steps is None else duration(stage.steps * stage.step.seconds)


def _part(stage: StagePlan, part: str) -> str:
    return seconds(getattr(stage.step, part))


def _efficiency(stage: StagePlan) -> str:
    return "-" if stage.efficiency is None else f"{stage.efficiency:.1%}"


def _tokens(stage: StagePlan) -> str:
    return "-" if stage.steps is None else many(stage.steps * stage.tokens_per_step)


_ROWS = {
    "parameters": lambda stage: many(stage.counted[0]),
    "  of them trained": lambda stage: many(stage.counted[1]),
    "tokens of the longest row": lambda stage: f"{stage.tokens:,}",
    "rows of a step": lambda stage: f"{stage.rows_per_step:,}",
    "steps": lambda stage: "-" if stage.steps is None else f"{stage.steps:,}",
    "tokens": _tokens,
    "rows filled": _efficiency,
}


def _changes(plan: Plan) -> Iterator[str]:
    """Yield, for each stage that does not fit, what makes it fit and what else helps."""
    for stage in (stage for stage in plan.trained if not stage.fits and not plan.unstartable):
        found, name = plan.advice[stage.stage.name], stage.stage.name
        place = f"; all but launch and model into stage {name}" if len(plan.stages) > 1 else ""
        for number, one in enumerate(found.ways):
            how = "Or, to train what it trains now" if number else f"To make {name} fit"
            yield from ("", *paragraph("", f"{how}, write into the recipe{place}:", 0))
            yield from ("", *yaml_lines(one.changed.write, 4), "")
            yield from paragraph("", f"{_listed(one.changed.names)}{_paid(one)}", 2)
            yield from (_COLUMNS.rstrip(), _effect(one, "all of it"))
        yield from ("", f"Single changes of {name}:", "", _COLUMNS.rstrip()) if found.singles else ()
        for one in found.singles[:LISTED]:
            yield from paragraph(_effect(one, ""), f"{_listed(one.changed.names)}{_paid(one)}", len(_COLUMNS))
            yield from yaml_lines(one.changed.write, len(_COLUMNS))


_COLUMNS = "     GiB    less   time        "


def _effect(one: Ranked, name: str) -> str:
    fits = "fits" if one.fits else ""
    return f"{gib(one.bytes):>8}{gib(one.saved):>8}{f'x{one.time:.2f}':>7}  {fits:4}  {name}"


def _paid(one: Ranked) -> str:
    host = one.host_bytes
    price = [*one.changed.price, *([f"{gib(host)} GiB more of a machine's memory"] if host > GIB else [])]
    return f"; {'; '.join(price)}" if price else ""


def _listed(names: tuple[str, ...]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _checked(plan: Plan) -> str:
    measured = [stage.calibrated for stage in plan.trained]
    if all(measured):
        return "corrected by what was measured on such a GPU"
    return "in part corrected by what was measured" if any(measured) else "not measured on this GPU"


def _basis(plan: Plan) -> Iterator[str]:
    """Yield what the figures rest on."""
    host = plan.machines.host_bytes
    notes = [
        *plan.notes,
        f"shape of the model: {plan.source}",
        f"memory: by formulas, {_checked(plan)} (docs/plan-memory.md)",
        "time: operations counted, the rate is an assumption; --mfu 0.4 says another (docs/plan.md)",
    ]
    if any(stage.stage.document_mask for stage in plan.trained):
        notes.append("attention is counted over whole rows; the document mask makes it less")
    if math.isinf(host) and any(set(stage.memory.host) - {"runtime"} for stage in plan.trained):
        notes.append("the machine's memory is not judged; --host-memory GIB does")
    for note in notes:
        yield from paragraph("-", note, 2)
