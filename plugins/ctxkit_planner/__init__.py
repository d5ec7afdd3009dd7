"""What a stage will need before it is paid for: memory, time, cost, and what to change where it does not fit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ctxkit.spec import hookimpl

if TYPE_CHECKING:
    from ctxkit.spec import PlanAnswer, PlanRequest


@hookimpl(trylast=True)
def ctxkit_plan(request: PlanRequest) -> PlanAnswer | None:
    """Answer from formulas alone; nothing of the training stack is imported."""
    from ctxkit_planner import answer

    if request.question == "parameters":
        return answer.parameter_answer(request)
    return answer.advice_answer(request) if request.question == "advice" else answer.plan_answer(request)
