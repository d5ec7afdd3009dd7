"""What a stage will need before it is paid for: memory, time, cost, and what to change where it does not fit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ctxkit.spec import hookimpl

if TYPE_CHECKING:
    from ctxkit.spec import PlanAnswer, PlanRequest


@hookimpl(trylast=True)
def ctxkit_plan(request: PlanRequest) -> PlanAnswer | None:
    """Answer from formulas alone, in milliseconds; nothing of the training stack is imported."""
    from ctxkit_planner.answer import parameter_answer

    return parameter_answer(request)
