"""lm-evaluation-harness (Gao et al.) with the model and the tokenizer that are in memory."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctxkit.errors import CtxkitError, ExitCode
from ctxkit.spec import EvalReport, Measurement, Sample
from ctxkit_evals.harness_intervals import INTERVAL, interval

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from ctxkit.spec import Cells
    from ctxkit_evals.harness_options import LmEvalOptions

NO_LENGTH = 0
"""What stands for the context length of a task that has none."""
RANGES = (1.0, 100.0)
"""Where nothing tells how certain a value is, its bounds are 0 and the first of these that is not below it."""
UNBOUNDED = (
    "{:.6g}, but nothing tells how certain that is: lm-eval gives neither a standard error nor scores of samples"
)
SHOWN = 400
"""Characters of the end of a prompt that are kept."""


@dataclass(frozen=True)
class Number:
    """A metric of a task, as lm-eval has it."""

    metric: str
    value: float
    count: int
    interval: tuple[float, float] | None
    """None where nothing tells how certain it is."""


@dataclass(frozen=True)
class Harness:
    """Measure tasks, one cell each."""

    options: LmEvalOptions
    seed: int
    cells: Callable[[str, Mapping[str, Callable[[], Any]]], Cells]

    def check(self) -> None:
        """Find out whether every task exists.

        Raises:
            CtxkitError: with exit code 2, if one does not or lm-eval is not installed.
        """
        _installed()
        if self.options.include_path and not Path(self.options.include_path).is_dir():
            raise _mistake(f"there is no folder {self.options.include_path}", "see include_path")
        known = _manager(self.options.include_path)
        unknown = [name for name in self.options.tasks if not known.match_tasks([name])]
        if unknown:
            raise _mistake(f"lm-eval has no task {', '.join(unknown)}", "`lm_eval ls tasks` lists them")

    def __call__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> EvalReport:
        """Return every metric of every task with its 95 % interval."""
        version = _installed()
        work = {name: partial(self._measure, name, model, tokenizer) for name in self.options.tasks}
        done = self.cells("lm_eval", work)
        results = list(done.found.values())
        measured = tuple(Measurement(**item) for result in results for item in result["measurements"])
        samples = tuple(Sample(**item) for result in results for item in result["samples"])
        about: dict[str, str | int | float] = {
            "seed": self.seed,
            "interval": INTERVAL,
            "lm_eval": version,
        }
        if unknown := [name for result in results for name in result["no_interval"]]:
            about["no_interval"] = f"low and high are only the range of the metric: {', '.join(unknown)}"
        unbounded = {name: why for result in results for name, why in result["unbounded"].items()}
        return EvalReport("lm_eval", measured, samples, about, {**done.failed, **unbounded})

    def _measure(self, name: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
        """Measure one task or group; return its measurements and samples as plain values."""
        from lm_eval.evaluator import simple_evaluate
        from lm_eval.models.huggingface import HFLM

        asked = self.options
        logging.getLogger("lm_eval").setLevel(logging.ERROR)
        model_in_harness: Any = HFLM(
            pretrained=model,
            tokenizer=tokenizer,
            batch_size=asked.batch_size,
            max_length=asked.max_length,
        )
        found: Any = simple_evaluate(
            model=model_in_harness,
            tasks=[name],
            num_fewshot=asked.num_fewshot,
            limit=asked.limit,
            apply_chat_template=asked.apply_chat_template,
            task_manager=_manager(asked.include_path),
            random_seed=self.seed,
            numpy_random_seed=self.seed,
            torch_random_seed=self.seed,
            fewshot_random_seed=self.seed,
        )
        numbers = [number for task in found["results"] for number in _numbers(task, found, self.seed)]
        return {
            **_bounded(numbers),
            "samples": [item for task, logged in found["samples"].items() for item in _samples(task, logged)],
        }


def _installed() -> str:
    """Return the version of lm-eval.

    Raises:
        CtxkitError: with exit code 2, if there is none.
    """
    if find_spec("lm_eval") is None:
        raise _mistake("lm_eval needs lm-evaluation-harness", "pip install 'ctxkit-longcontext[evals]'")
    from importlib.metadata import version

    return version("lm_eval")


@cache
def _manager(include_path: str | None) -> Any:
    """Return lm-eval's index of tasks, which takes ten seconds to make."""
    from lm_eval.tasks import TaskManager

    return TaskManager(include_path=include_path)


def _numbers(task: str, found: Mapping[str, Any], seed: int) -> Iterator[Number]:
    """Yield the metrics of a task; lm-eval names one `acc,none`: the metric, then the filter of the answers."""
    result = found["results"][task]
    logged = found["samples"].get(task, [])
    count = found["n-samples"].get(task, {}).get("effective") or result.get("sample_len") or len(logged)
    for key, value in result.items():
        metric, comma, answers = key.partition(",")
        if not comma or metric.endswith("_stderr") or not isinstance(value, int | float):
            continue
        scores = [sample[metric] for sample in logged if sample.get("filter") == answers and metric in sample]
        name = metric if answers == "none" else f"{metric} ({answers})"
        error = result.get(f"{metric}_stderr,{answers}")
        yield Number(f"{task} {name}", float(value), int(count), interval(float(value), error, scores, seed))


def _bounded(numbers: Sequence[Number]) -> dict[str, Any]:
    """Return as plain values the measurements, the names of those without a true interval, and why others are none."""
    ranges = {number.metric: _range(number.value) for number in numbers if number.interval is None}
    known = [(number, number.interval or ranges[number.metric]) for number in numbers]
    return {
        "measurements": [
            asdict(Measurement(number.metric, NO_LENGTH, number.value, *bounds, number.count))
            for number, bounds in known
            if bounds
        ],
        "no_interval": [metric for metric, bounds in ranges.items() if bounds],
        "unbounded": {number.metric: UNBOUNDED.format(number.value) for number, bounds in known if not bounds},
    }


def _range(value: float) -> tuple[float, float] | None:
    return next(((0.0, top) for top in RANGES if 0 <= value <= top), None)


def _samples(task: str, logged: list[Any]) -> Iterator[dict[str, Any]]:
    """Yield each sample by its first metric, as the first filter of its answers left it."""
    seen = set()
    for item in logged:
        metric = item["metrics"][0]
        if item["doc_id"] not in seen and isinstance(item.get(metric), int | float):
            seen.add(item["doc_id"])
            yield {
                "id": f"{task}:{item['doc_id']}:{item['prompt_hash'][:16]}:{item['filter']}",
                "length": NO_LENGTH,
                "score": float(item[metric]),
                "input": str(item["arguments"][0][0])[-SHOWN:],
                "target": str(item["target"]),
                "output": str(item["filtered_resps"])[:SHOWN],
                "metadata": {"task": task, "metric": metric},
            }


def _mistake(said: str, hint: str) -> CtxkitError:
    return CtxkitError(said, hint, exit_code=ExitCode.RECIPE)
