"""The hand-over to lm-evaluation-harness: its figures are those of the model in memory."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from lm_eval.tasks import TaskManager
from transformers import LlamaConfig, LlamaForCausalLM

from ctxkit.errors import CtxkitError
from ctxkit.spec import Context, EvalReport
from ctxkit.spec.intervals import wilson
from ctxkit_evals import harness
from ctxkit_evals.harness_intervals import interval
from ctxkit_evals.harness_options import LmEvalOptions
from tests.unit.train.builders import byte_tokenizer

pytestmark = pytest.mark.torch

DOCS = [(f"Question {number}:", [f"first {number}", f"the second one {number}"], number % 2) for number in range(12)]


@pytest.fixture(autouse=True)
def own_tasks_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out lm-eval's own thousands of tasks, whose index takes ten seconds to make."""
    monkeypatch.setattr(harness, "_manager", lambda folder: TaskManager(include_path=folder, include_defaults=False))


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    """A folder with one task of two choices."""
    rows = ({"question": question, "choices": choices, "gold": gold} for question, choices, gold in DOCS)
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "two.yaml").write_text(
        "task: two_choices\ndataset_path: json\noutput_type: multiple_choice\ntest_split: test\n"
        f"dataset_kwargs: {{data_files: {{test: {tmp_path}/data.jsonl}}}}\n"
        "doc_to_text: '{{question}}'\ndoc_to_choice: choices\ndoc_to_target: gold\nmetric_list: [{metric: acc}]\n"
    )
    return tmp_path


def test_figures_are_those_of_the_model(tasks: Path) -> None:
    """Accuracy by summed log-likelihood, computed here by transformers alone; an unknown task is found before."""
    model = _model()
    tokenizer = byte_tokenizer()
    options = LmEvalOptions(kind="lm_eval", tasks=("two_choices",), include_path=str(tasks))
    context = Context(seed=4, tokenizer=tokenizer)
    options.check(context)
    with torch.no_grad():
        report = options.build(context)(model, tokenizer)
        chosen = [_likeliest(model, question, choices) for question, choices, _ in DOCS]
    hits = [float(choice == gold) for choice, (_, _, gold) in zip(chosen, DOCS, strict=True)]
    assert 0 < sum(hits) < len(hits)
    (measured,) = report.measurements
    assert (measured.metric, measured.length, measured.count) == ("two_choices acc", harness.NO_LENGTH, 12)
    assert measured.value == pytest.approx(sum(hits) / 12)
    assert (measured.low, measured.high) == wilson(sum(hits), 12)
    assert [sample.score for sample in report.samples] == hits
    assert len({sample.id for sample in report.samples}) == 12
    assert EvalReport.from_json(json.loads(json.dumps(report.to_json()))) == report

    unknown = LmEvalOptions(kind="lm_eval", tasks=("two_choices", "no_such_task"), include_path=str(tasks))
    with pytest.raises(CtxkitError, match="lm-eval has no task no_such_task"):
        unknown.check(context)


def test_a_document_counts_once(tasks: Path) -> None:
    """Two filters of the answers are two metrics, and the samples are those of the first filter alone."""
    rows = [{"question": f"{number} is", "answer": str(number)} for number in range(4)]
    (tasks / "written.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tasks / "written.yaml").write_text(
        "task: written\ndataset_path: json\noutput_type: generate_until\ntest_split: test\n"
        f"dataset_kwargs: {{data_files: {{test: {tasks}/written.jsonl}}}}\n"
        "doc_to_text: '{{question}}'\ndoc_to_target: '{{answer}}'\n"
        "generation_kwargs: {max_gen_toks: 2, until: ['\\n']}\nmetric_list: [{metric: exact_match}]\nfilter_list:\n"
        "  - {name: strict, filter: [{function: take_first}]}\n"
        "  - {name: loose, filter: [{function: lowercase}, {function: take_first}]}\n"
    )
    options = LmEvalOptions(kind="lm_eval", tasks=("written",), include_path=str(tasks))
    report = options.build(Context())(_model(), byte_tokenizer())
    assert not report.failures
    assert [item.metric for item in report.measurements] == [
        "written exact_match (strict)", "written exact_match (loose)",
    ]  # fmt: skip
    assert [item.count for item in report.measurements] == [4, 4]
    assert len(report.samples) == 4
    assert all(sample.id.endswith(":strict") for sample in report.samples)


def test_no_metric_is_certain() -> None:
    """Without a standard error of lm-eval it is the bootstrap over samples; without samples there is none."""
    scores = [0.1, 0.4, 0.4, 0.9, 0.2]
    middle, error = float(np.mean(scores)), float(np.std(scores)) / math.sqrt(5)
    low, high = interval(middle, "N/A", scores, 0)
    assert (low, high) == pytest.approx((middle - 1.96 * error, middle + 1.96 * error), abs=0.05)
    assert interval(middle, 0.01, scores, 0) == pytest.approx((middle - 0.0196, middle + 0.0196), abs=1e-5)
    # What is not the mean of its samples has no bootstrap of a mean, nor has a single sample.
    assert interval(0.7, "N/A", scores, 0) is None
    assert interval(0.7, "N/A", [0.7], 0) is None
    assert interval(0.7, None, [], 0) is None


@pytest.mark.parametrize("name", ["weighted_perplexity", "bits_per_byte"])
def test_perplexity_of_lm_eval_has_an_interval(name: str) -> None:
    """By its own functions, for which it has no standard error: over texts drawn anew."""
    from lm_eval.api import metrics

    fold = getattr(metrics, name)
    generator = np.random.default_rng(0)
    pairs = [(-2.0 * weight * generator.gamma(20, 1 / 20), weight) for weight in (10, 40, 90, 20, 30, 60, 50, 80)]
    drawn = [fold([pairs[place] for place in generator.integers(8, size=8)]) for _ in range(4000)]
    found = interval(fold(pairs), "N/A", pairs, 0)
    assert found == pytest.approx(tuple(np.percentile(drawn, (2.5, 97.5))), rel=0.03)


def test_a_value_of_unknown_certainty_is_said(tasks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its bounds are the range of the metric, and the metadata name it; beyond any range it is no measurement."""
    monkeypatch.setattr(harness, "interval", lambda *_: None)
    options = LmEvalOptions(kind="lm_eval", tasks=("two_choices",), include_path=str(tasks))
    report = options.build(Context())(_model(), byte_tokenizer())
    (measured,) = report.measurements
    assert (measured.low, measured.high) == (0.0, 1.0)
    assert report.metadata["no_interval"] == "low and high are only the range of the metric: two_choices acc"
    monkeypatch.setattr(harness, "RANGES", ())
    report = options.build(Context())(_model(), byte_tokenizer())
    assert not report.measurements
    assert report.failures["two_choices acc"].startswith(f"{measured.value:.6g}, but nothing tells")


def _model() -> LlamaForCausalLM:
    """Return a random model."""
    torch.manual_seed(1)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=258, max_position_embeddings=128, **sizes)).eval()


def _likeliest(model: LlamaForCausalLM, question: str, choices: list[str]) -> int:
    sums = []
    for choice in choices:
        ids = torch.tensor([byte_tokenizer()(f"{question} {choice}")["input_ids"]])
        likelihood = model(ids).logits.log_softmax(-1)[0, :-1].gather(1, ids[0, 1:, None])[:, 0]
        sums.append(float(likelihood[-len(choice) - 1 :].sum()))
    return max(range(len(sums)), key=sums.__getitem__)


def test_missing_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It is named before anything is trained; so is a folder that is not there."""
    with pytest.raises(CtxkitError, match="there is no folder"):
        LmEvalOptions(kind="lm_eval", tasks=("a",), include_path=str(tmp_path / "none")).check(Context())
    monkeypatch.setattr(harness, "find_spec", lambda _: None)
    with pytest.raises(CtxkitError) as caught:
        LmEvalOptions(kind="lm_eval", tasks=("a",)).check(Context())
    assert "[evals]" in caught.value.hint
