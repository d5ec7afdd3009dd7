"""A plugin of a stranger can answer `ctxkit_plan`, and is named where it fails."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ctxkit import plan
from ctxkit.errors import CtxkitError
from ctxkit.host import Host
from ctxkit.reading import Located
from ctxkit.rundir import RunDirectory
from ctxkit.spec import Hardware, PlanAnswer, PlanRequest, hookimpl

Load = Callable[..., Located]
NOWHERE = RunDirectory(Path("nowhere"))


class Oracle:
    """Answers for its own GPU alone."""

    def __init__(self) -> None:
        """Remember what it was asked."""
        self.asked: list[PlanRequest] = []

    @hookimpl
    def ctxkit_plan(self, request: PlanRequest) -> PlanAnswer | None:
        self.asked.append(request)
        if request.question != "plan" or request.hardware.gpu != "abacus":
            return None
        return PlanAnswer({"fits": False}, "it never fits")


@pytest.fixture
def tiny(load: Load, minimal: str) -> Located:
    """Return a recipe whose model is known to ctxkit's own planner."""
    return load(minimal.replace("some/model", "Qwen/Qwen2.5-0.5B"))


def test_the_first_answer_wins(tiny: Located) -> None:
    """A stranger comes before ctxkit's own planner, which answers what the stranger leaves."""
    host, oracle = Host(), Oracle()
    host.register(oracle, "oracle")
    answer = plan.on_hardware(tiny, host, Hardware(gpu="abacus"), NOWHERE)
    assert (answer.values, answer.text) == ({"fits": False}, "it never fits")
    ours = plan.on_hardware(tiny, host, Hardware(gpu="t4"), NOWHERE)
    assert ours.values["gpu"] == "t4"
    sizes = plan.parameters(tiny, host)
    assert sizes is not None
    assert sizes.values["parameters"] == 494_032_768
    assert [request.question for request in oracle.asked] == ["plan", "plan", "parameters"]
    request = oracle.asked[0]
    assert (request.model, request.config, request.stages[0].row_length) == ("Qwen/Qwen2.5-0.5B", None, 128)
    assert request.recipe["launch"]["num_processes"] == 1


def test_nobody_plans(tiny: Located) -> None:
    """Without any planner, `--gpu` ends with one message, and the plan without it is as it was."""
    with pytest.raises(CtxkitError, match="no plugin plans"):
        plan.on_hardware(tiny, Host([]), Hardware(gpu="t4"), NOWHERE)
    assert plan.parameters(tiny, Host([])) is None


def test_a_planner_that_fails_is_named(tiny: Located) -> None:
    """Not ctxkit is blamed, but the plugin, with how it is left out."""

    class Broken:
        @hookimpl
        def ctxkit_plan(self, request: PlanRequest) -> PlanAnswer:
            raise KeyError("memory")

    host = Host()
    host.register(Broken(), "broken")
    with pytest.raises(CtxkitError, match=r"plugin broken .*ctxkit_plan failed: KeyError: 'memory'"):
        plan.on_hardware(tiny, host, Hardware(gpu="t4"), NOWHERE)


def test_another_type_is_no_answer(tiny: Located) -> None:
    """An answer of another type counts as none that can be used."""

    class Loose:
        @hookimpl
        def ctxkit_plan(self, request: PlanRequest) -> object:
            return {"fits": True}

    host = Host([])
    host.register(Loose(), "loose")
    with pytest.raises(CtxkitError, match="no plugin plans"):
        plan.on_hardware(tiny, host, Hardware(gpu="t4"), NOWHERE)
