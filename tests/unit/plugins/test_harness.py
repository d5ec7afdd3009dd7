"""The hand-over to lm-evaluation-harness: its figures are those of the model in memory."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from ctxkit.errors import CtxkitError
from ctxkit.spec import Context, EvalReport
from ctxkit.spec.intervals import wilson
from ctxkit_evals import harness
from ctxkit_evals.harness_options import LmEvalOptions
from tests.unit.train.builders import byte_tokenizer

pytestmark = pytest.mark.torch

DOCS = [(f"Question {number}:", [f"first {number}", f"the second one {number}"], number % 2) for number in range(12)]


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
    torch.manual_seed(1)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=258, max_position_embeddings=128, **sizes)).eval()
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
