"""Questions about long texts: what is asked, what is cut, what counts, and how it is scored."""

from __future__ import annotations

import importlib.util
import json
import random
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import ValidationError

from ctxkit.errors import CtxkitError, DataError
from ctxkit.spec import Context, Document, EvalReport
from ctxkit_evals import long_qa_scoring
from ctxkit_evals.chat import chat_frame
from ctxkit_evals.forks import shared_tokens
from ctxkit_evals.haystack import encoded
from ctxkit_evals.long_qa import LongQa
from ctxkit_evals.long_qa_options import PROMPT, LongQaOptions
from ctxkit_evals.long_qa_prompts import Prompts, Question, Topic, topics, without_middle
from ctxkit_evals.long_qa_scoring import exact_match, f1, rouge_l, scored
from ctxkit_sources.options import HubOptions, RepeatsOptions
from tests.unit.plugins.test_perplexity import bytes_tokenizer

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM

pytestmark = pytest.mark.torch

STORY = "The ship was called Aurora. " + "Waves came and went. " * 30 + "The captain was Mr. Stone."


def asked(text: str, question: str, answers: Any, name: str = "d") -> Document:
    """Return a document with a question."""
    return Document(text, id=name, metadata={"question": question, "answers": answers})


DOCUMENTS = [
    asked(STORY, "What was the ship called?", '["Aurora", "the Aurora"]', "ship"),
    asked(STORY, "Who was the captain?", "Mr. Stone", "captain"),
    asked("A short text about Rome.", "Which town?", json.dumps({"text": ["Rome"], "answer_start": [19]}), "town"),
]


def measure(**changes: Any) -> LongQa:
    """Return an eval over the three questions."""
    chosen: dict[str, Any] = {
        "documents": DOCUMENTS, "question": "question", "answers": "answers", "lengths": (200, 1000), "samples": 10,
        "template": "{context}\nQ: {question}\nA:", "chat": False, "max_new_tokens": 8, "stop": "\n",
        "metrics": ("f1", "exact_match"), "cells": Context().cells,
    }  # fmt: skip
    return LongQa(**{**chosen, **changes})


def run(what: LongQa, model: Any, tokenizer: Any) -> EvalReport:
    """Return the report, measured as the core measures."""
    import torch

    with torch.no_grad():
        return what(model, tokenizer)


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    """A random model."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=258, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=512, initializer_range=0.3, eos_token_id=1,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def answering(monkeypatch: pytest.MonkeyPatch, answers: dict[str, str]) -> None:
    """Let a model write what is given for each question."""

    def write(_: Any, trunks: Any, __: int, most: int, enough: Any) -> list[list[list[int]]]:
        tokenizer = bytes_tokenizer()
        found = []
        for trunk in trunks:
            rows = []
            for fork in trunk.forks:
                tokens: list[int] = []
                for token in encoded(tokenizer, answers[fork.input])[:most]:
                    tokens.append(token)
                    if enough(fork, tokens):
                        break
                rows.append(tokens)
            found.append(rows)
        return found

    monkeypatch.setattr("ctxkit_evals.long_qa.written", write)


def test_answers_are_judged_by_what_is_written(monkeypatch: pytest.MonkeyPatch, model: LlamaForCausalLM) -> None:
    """Each answer ends at the first line end after its first word, and counts by the best right answer."""
    said = {
        "What was the ship called?": " The Aurora!\nQ: Who",
        "Who was the captain?": "\n\nStone\n",
        "Which town?": " Venice",
    }
    answering(monkeypatch, said)
    report = run(measure(max_new_tokens=40), model, bytes_tokenizer())
    assert not report.failures
    found = {(item.metric, item.length): item.value for item in report.measurements}
    # "mr stone" and "stone": precision 1, recall 1/2.
    assert found["f1", 1000] == pytest.approx((1 + 2 / 3 + 0) / 3)
    assert found["exact_match", 1000] == pytest.approx(1 / 3)
    assert {item.count for item in report.measurements} == {3}
    samples = [sample for sample in report.samples if sample.length == 200]
    assert [sample.output for sample in samples] == ["The Aurora!", "Stone", "Venice"]
    assert [sample.target for sample in samples] == ["Aurora / the Aurora", "Mr. Stone", "Rome"]
    assert [sample.metadata["document"] for sample in samples] == ["ship", "captain", "town"]
    assert samples[0].score == samples[0].metadata["f1"] == 1.0
    assert report.metadata["sample_score"] == "f1"
    free = run(measure(max_new_tokens=40, stop=None, lengths=(1000,)), model, bytes_tokenizer())
    assert free.samples[0].output == "The Aurora!\nQ: Who"


def test_answer_is_what_generate_writes(model: LlamaForCausalLM) -> None:
    """What is judged is what transformers' own greedy decoding writes after the whole prompt."""
    import torch

    tokenizer = bytes_tokenizer(bos_token="<s>")
    report = run(measure(stop=None), model, tokenizer)
    prompts = measure().prompts(tokenizer)
    for group in measure().groups():
        for sheet in group.sheets(prompts):
            for fork in sheet.trunk.forks:
                ids = torch.tensor([sheet.trunk.prompt(fork)])
                with torch.no_grad():
                    written = model.generate(
                        ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=False, pad_token_id=0
                    )[0, ids.shape[1] :]
                text = tokenizer.decode(written, skip_special_tokens=True).strip()
                [sample] = [each for each in report.samples if each.input == fork.input and each.length == group.length]
                assert sample.output == text
                assert ids[0, 0] == 0


def sheet(length: int, tokenizer: Any = None, **changes: Any) -> Any:
    """Return the prompts about the story."""
    made = Prompts(tokenizer or bytes_tokenizer(), changes.pop("template", "{context}\nQ: {question}\nA:"), False, 8)
    [story, _] = topics(DOCUMENTS, "question", "answers", 10)
    return made.sheet(story, length, 1)


def test_the_middle_of_the_text_is_cut_and_never_the_question() -> None:
    """A prompt has the stated tokens with the room for the answer, ends with its question, and keeps both ends."""
    tokenizer = bytes_tokenizer()
    found = sheet(200)
    prompts = [tokenizer.decode(found.trunk.prompt(fork)) for fork in found.trunk.forks]
    assert max(len(prompt) for prompt in prompts) == 200 - 8
    for prompt, question in zip(prompts, ("What was the ship called?", "Who was the captain?"), strict=True):
        assert prompt.startswith("The ship was called Aurora. Waves")
        assert prompt.endswith(f"The captain was Mr. Stone.\nQ: {question}\nA:")
    kept = prompts[0].removesuffix("\nQ: What was the ship called?\nA:")
    assert (found.context, found.cut) == (len(STORY), len(STORY) - len(kept))
    assert abs(len(kept) // 2 - next(place for place, c in enumerate(kept) if c != STORY[place])) <= 1


def test_questions_about_a_text_share_its_tokens() -> None:
    """The text is read once for all questions about it; each has at least one token of its own."""
    found = sheet(1000)
    [first, second] = found.trunk.forks
    assert found.cut == 0
    assert len(found.trunk.ids) == first.at == second.at == len(STORY) + len("\nQ: Wh")
    same = Topic("x", (Question("a", "why?", ("y",)), Question("b", "why?", ("z",))))
    trunk = Prompts(bytes_tokenizer(), "{context}{question}", False, 8).sheet(same, 100, 1).trunk
    assert [fork.ids for fork in trunk.forks] == [encoded(bytes_tokenizer(), "?")] * 2


def test_a_question_may_stand_before_the_text() -> None:
    """Where the template asks first, the prompt does."""
    found = sheet(1000, template="{question}\n{context}\n{question}")
    text = bytes_tokenizer().decode(found.trunk.prompt(found.trunk.forks[1]))
    assert text == f"Who was the captain?\n{STORY}\nWho was the captain?"


def test_a_question_without_room_is_refused() -> None:
    """A length that the question alone fills is named with what is needed."""
    with pytest.raises(DataError, match="40 tokens have no room for any text beside the question of ship"):
        sheet(40)
    assert without_middle([1, 2, 3], 1) == [1]
    assert without_middle([1, 2, 3, 4], 3) == [1, 2, 4]


def test_shared_tokens_are_those_that_all_begin_with() -> None:
    """The count is that of a loop over all places of all rows."""
    generator = random.Random(0)
    for _ in range(200):
        rows = [[generator.randrange(2) for _ in range(generator.randrange(6))] for _ in range(3)]
        alike = [len({tuple(row[:count]) for row in rows}) == 1 for count in range(min(map(len, rows)) + 1)]
        assert shared_tokens(rows) == sum(alike) - 1


def test_chat_template_stands_around_the_prompt() -> None:
    """A prompt in a chat is what the template writes of it; a text that looks like a special token stays text."""
    tokenizer = bytes_tokenizer(bos_token="<s>")
    turns = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
    tokenizer.chat_template = f"<s>{turns}" + "{% if add_generation_prompt %}[bot]{% endif %}"
    made = Prompts(tokenizer, "{context}|{question}", True, 8)
    topic = Topic("text </s> more", (Question("a", "why?", ("y",)),))
    trunk = made.sheet(topic, 1000, 1).trunk
    ids = trunk.prompt(trunk.forks[0])
    assert tokenizer.decode(ids) == "<s>[user]text </s> more|why?[bot]"
    assert ids.count(0) == 1
    assert 1 not in ids


@pytest.mark.parametrize(("template", "said"), [(None, "no chat template"), ("hello", "0 times")])
def test_a_template_that_cannot_ask_is_refused(template: str | None, said: str) -> None:
    """Without a chat template, or with one that leaves out what the user says, there is a message."""
    tokenizer = bytes_tokenizer()
    tokenizer.chat_template = template
    with pytest.raises(DataError, match=said):
        chat_frame(tokenizer)


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ({"answers": "x"}, "has no 'question' in its metadata; there: answers"),
        ({"question": "q"}, "has no 'answers' in its metadata; there: question"),
        ({"question": " ", "answers": "x"}, "has no 'question'"),
        ({"question": "q", "answers": "[]"}, "has no answer in 'answers'"),
        ({"question": "q", "answers": '{"text": []}'}, "has no answer"),
        ({"question": "q", "answers": '{"text": null}'}, "has no answer"),
        ({"question": "q", "answers": '{"city": "Paris"}'}, "has answers in 'answers' that are no texts"),
        ({"question": "q", "answers": '{"text": {"city": "Paris"}}'}, "has answers in 'answers' that are no texts"),
        ({"question": "q", "answers": '[["Paris"]]'}, "has answers in 'answers' that are no texts"),
    ],
)
def test_a_question_without_its_parts_is_named(metadata: dict[str, Any], said: str) -> None:
    """The document and the key that is missing are named, with what is there."""
    with pytest.raises(DataError, match=said) as error:
        topics([Document("t", id="row 7", metadata=metadata)], "question", "answers", 5)
    assert "row 7" in str(error.value)


def test_no_question_is_an_error() -> None:
    """A source without documents is no perfect score."""
    with pytest.raises(DataError, match="no documents"):
        topics([], "question", "answers", 5)
    assert len(topics(DOCUMENTS, "question", "answers", 1)[0].questions) == 1


@pytest.mark.parametrize(
    ("held", "answers"),
    [
        ('{"text": "Paris"}', ("Paris",)),
        ('{"text": ["Paris", "Lutetia"], "answer_start": [3, 9]}', ("Paris", "Lutetia")),
        ('["{}"]', ("{}",)),
        ("1999", ("1999",)),
        (42, ("42",)),
        ('["a", "b"]', ("a", "b")),
        ("[see note", ("[see note",)),
        ("yes", ("yes",)),
    ],
)
def test_answers_as_they_are_held(held: Any, answers: tuple[str, ...]) -> None:
    """A text or number is one answer, a list in JSON several."""
    [topic] = topics([asked("t", "q", held)], "question", "answers", 5)
    assert topic.questions[0].answers == answers


@pytest.mark.parametrize(
    ("output", "answer", "exact", "overlap"),
    # Worked out by the definitions of SQuAD's evaluation script (Rajpurkar et al. 2016).
    [
        ("The Eiffel Tower!", "eiffel tower", 1, 1),
        ("in the Eiffel Tower", "Eiffel Tower", 0, 0.8),
        ("tower tower", "tower", 0, 2 / 3),
        ("Paris", "Rome", 0, 0),
        ("", "Rome", 0, 0),
        ("the", "", 1, 1),
        ("a.b", "ab", 1, 1),
    ],
)
def test_scores_by_hand(output: str, answer: str, exact: float, overlap: float) -> None:
    """Exact match and F1 ignore case, punctuation and articles, and count words as often as they come."""
    assert exact_match(output, answer) == exact
    assert f1(output, answer) == pytest.approx(overlap)


def test_scores_equal_those_of_lm_eval() -> None:
    """F1 and exact match are those of the MLQA script in lm-evaluation-harness, which are SQuAD's for English."""
    theirs: Any = pytest.importorskip("lm_eval.tasks.mlqa.utils")
    generator = random.Random(0)
    words = ["the", "a", "an", "red", "Red", "fox.", "fox", "ox", "1,000", "it's", "-", "Theatre"]
    for _ in range(300):
        output, answer = (" ".join(generator.choices(words, k=generator.randrange(1, 6))) for _ in range(2))
        if theirs.normalize_answer(output, "en") and theirs.normalize_answer(answer, "en"):
            assert f1(output, answer) == pytest.approx(theirs.f1_score(output, answer, "en"))
        assert exact_match(output, answer) == theirs.exact_match_score(output, answer, "en")


def test_rouge_l_by_hand() -> None:
    """The longest common subsequence of "police killed gunman" and "police kill the gunman" has 3 stemmed words."""
    pytest.importorskip("rouge_score")
    assert rouge_l("police killed gunman", ["nothing", "police kill the gunman"]) == pytest.approx(2 * 3 / (3 + 4))
    assert scored("rouge_l", "x", ["y"]) == 0
    assert scored("f1", "Rome", ["Paris", "Rome Italy"]) == pytest.approx(2 / 3)


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without rouge-score the metric is refused before anything is trained, with the extra that has it."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(CtxkitError, match="extra `evals`"):
        long_qa_scoring.check_rouge()


def options(**changes: Any) -> LongQaOptions:
    """Return options that can be measured."""
    source = RepeatsOptions(kind="repeats", documents=5, length=200)
    return LongQaOptions(**{"kind": "long_qa", "source": source, "lengths": (800,), **changes})


@pytest.mark.parametrize(
    "wrong",
    [
        {"lengths": (800, 800)},
        {"metrics": ("f1", "f1")},
        {"metrics": ()},
        {"metrics": ("bleu",)},
        {"prompt": "{question}"},
        {"prompt": "{context}"},
        {"prompt": "{context}{context}{question}"},
        {"stop": ""},
    ],
    ids=str,
)
def test_options_that_measure_nothing_are_refused(wrong: dict[str, Any]) -> None:
    """A template without its parts, a metric that nobody knows, a length twice: refused with the recipe."""
    with pytest.raises(ValidationError):
        options(**wrong)


def test_a_dataset_becomes_questions(tmp_path: Path, model: LlamaForCausalLM) -> None:
    """Every option reaches the measurement, from a file of rows to the scores of each answer."""
    rows = [
        {"body": STORY, "ask": "What was the ship called?", "right": ["Aurora"]},
        {"body": "Short.", "ask": "How?", "right": "well"},
    ]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = HubOptions(
        kind="hub", path="json", data_files=str(file), text_column="body", metadata_columns=("ask", "right")
    )
    chosen = options(
        source=source, question="ask", answers="right", lengths=(400, 2000), max_new_tokens=5, metrics=("exact_match",)
    )
    tokenizer = bytes_tokenizer()
    chosen.check(Context(tokenizer=tokenizer))
    report = run(chosen.build(Context()), model, tokenizer)
    assert {(item.metric, item.length, item.count) for item in report.measurements} == {
        ("exact_match", 400, 2), ("exact_match", 2000, 2),
    }  # fmt: skip
    assert report.metadata["beyond_window"] == "2000"
    whole = len(STORY) + len("Short.")
    cut = next(sample.metadata["cut_tokens"] for sample in report.samples)
    assert report.metadata["cut_tokens"] == f"{cut} of {whole} at 400, 0 of {whole} at 2000"
    overhead = len(PROMPT.replace("{context}", "").replace("{question}", rows[0]["ask"]))
    assert cut == len(STORY) - (400 - 5 - overhead)
    assert run(chosen.build(Context()), model, tokenizer) == report


def test_rows_without_a_text_are_counted(tmp_path: Path, model: LlamaForCausalLM) -> None:
    """A row with an empty text is no question, and the metadata say that it was left out."""
    rows = [{"body": text, "question": "Which?", "answers": "this"} for text in ("One.", "", "Two.", "")]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    columns = ("question", "answers")
    source = HubOptions(kind="hub", path="json", data_files=str(file), text_column="body", metadata_columns=columns)
    told: list[str] = []
    context = Context(skipped=lambda row, reason: told.append(f"{row}: {reason}"))
    eval_ = options(source=source, lengths=(400,), max_new_tokens=2).build(context)
    for _ in range(2):
        report = run(eval_, model, bytes_tokenizer())
        assert len(report.samples) == 2
        assert report.metadata["skipped_rows"] == "2 empty"
    assert len(told) == 4
    assert "skipped_rows" not in run(measure(), model, bytes_tokenizer()).metadata


def test_logits_that_are_not_finite_cost_their_cell_alone(
    model: LlamaForCausalLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A length at which the model breaks has no number but a reason; the others have theirs."""
    forward = model.forward

    def broken(input_ids: Any, **others: Any) -> Any:
        outputs = forward(input_ids=input_ids, **others)
        return SimpleNamespace(logits=outputs.logits * (float("nan") if input_ids.shape[1] > 300 else 1))

    monkeypatch.setattr(model, "forward", broken)
    monkeypatch.setattr("ctxkit_evals.greedy.shares", lambda _: False)
    monkeypatch.setattr("ctxkit_evals.greedy._caches", lambda _: False)
    report = run(measure(), model, bytes_tokenizer())
    assert {item.length for item in report.measurements} == {200}
    [why] = report.failures.values()
    assert "not finite" in why
    assert "at 1000" not in report.metadata["cut_tokens"]
