"""Needles in a haystack and key-value retrieval: what is hidden, what is asked, and how it is judged."""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from ctxkit.errors import DataError
from ctxkit.spec import Context, Document
from ctxkit.spec.intervals import wilson
from ctxkit_evals import needle as needle_module
from ctxkit_evals.forks import Fork
from ctxkit_evals.key_value_options import KeyValueOptions
from ctxkit_evals.needle import number
from ctxkit_evals.needle_options import NeedleOptions
from ctxkit_evals.pages import Amounts, pages
from ctxkit_sources.options import RepeatsOptions
from tests.unit.plugins.evals_models import FOX, model, tokenizer

pytestmark = pytest.mark.torch

BYTES, MERGED = tokenizer(), tokenizer(140)
SHORT: dict[str, Any] = {"needle": " {key}: {value}. ", "question": " {key}:", "preamble": "", "max_new_tokens": 30}


def needle(**changes: Any) -> NeedleOptions:
    """Return options in few words."""
    return NeedleOptions(**{"kind": "needle", "lengths": (200,), "samples": 3, **SHORT, **changes})


def trunks(options: NeedleOptions, of: Any = BYTES) -> list[Any]:
    """Return all prompts of the first length."""
    measure = options.build(Context())
    return measure.prompts(of, measure.haystack(of), options.lengths[0], range(options.samples))


def scripted(say: Callable[[Fork], str]) -> Any:
    """Return a stand-in for greedy decoding that writes what it is told, a token at a time."""

    def write(_: Any, trunks: list[Any], __: int, most: int, enough: Callable[[Fork, list[int]], bool]) -> Any:
        def tokens(fork: Fork) -> list[int]:
            ids = BYTES(say(fork))["input_ids"][:most]
            return next((ids[:end] for end in range(len(ids)) if enough(fork, ids[:end])), ids)

        return [[tokens(fork) for fork in trunk.forks] for trunk in trunks]

    return write


def test_modes_are_those_of_ruler() -> None:
    """The amounts name the task, and a text has as many sentences as RULER puts into it: keys times values."""
    for amounts, mode, sentences, questions in (
        (Amounts(1, 1, 1), "single", 1, 1),
        (Amounts(4, 1, 1), "multi_key", 4, 1),
        (Amounts(1, 4, 1), "multi_value", 4, 1),
        (Amounts(4, 1, 4), "multi_query", 4, 1),
        (Amounts(8, 2, 3), "multi_query", 16, 2),
    ):
        (page,) = pages(amounts, (0.5,), random.Random(0), number)
        assert amounts.mode == mode
        assert (len(page.statements), len(page.questions)) == (sentences, questions)
        assert len({statement.value for statement in page.statements}) == sentences
        assert len({statement.name for statement in page.statements}) == amounts.names
        for question in page.questions:
            assert len(question.names) == amounts.asked
            assert set(question.asked) == {each for each in page.statements if each.name in question.names}
            assert question.depth == (0.5 if amounts.on_grid else None)


@pytest.mark.parametrize("of", [BYTES, MERGED])
@pytest.mark.parametrize("amounts", [(1, 1, 1), (4, 1, 1), (1, 3, 1), (3, 1, 3)])
def test_prompts_hold_what_is_asked_and_are_as_long_as_said(of: Any, amounts: tuple[int, int, int]) -> None:
    """With what may be written, the longest prompt of a text has all the tokens; every value stands in it once."""
    k, v, q = amounts
    options = needle(num_needle_k=k, num_needle_v=v, num_needle_q=q, preamble="Mind. ")
    found = trunks(options, of)
    assert sum(len(trunk.forks) for trunk in found) == 3 * (5 if v == q == 1 else 1)
    for trunk in found:
        prompts = [trunk.prompt(fork) for fork in trunk.forks]
        assert max(map(len, prompts)) + 30 == 200
        for prompt, fork in zip(prompts, trunk.forks, strict=True):
            text = of.decode(prompt)
            assert text.startswith("Mind. ")
            assert len(fork.targets) == v * q
            assert [text.count(f": {value}. ") for value in fork.targets] == [1] * v * q
            assert text.count(". ") - text.count("1990. ") - text.count("Mind. ") >= k * v
            assert fork.target == ", ".join(fork.targets)
            assert text.endswith(":")


def test_words_by_default_are_those_of_ruler() -> None:
    """One value is asked for in the singular, several in the plural, several keys as a list with a last `and`."""
    one = trunks(needle(question=None, preamble=None, lengths=(700,)))[0]
    text = BYTES.decode(one.prompt(one.forks[0]))
    assert text.startswith("A special magic number is hidden within the following text.")
    assert text.endswith("mentioned in the provided text is")
    several = trunks(needle(question=None, preamble=None, lengths=(900,), num_needle_q=3))[0]
    text = BYTES.decode(several.prompt(several.forks[0]))
    a, b, c = (part.partition(":")[0] for part in several.forks[0].input.split(" ... ")[:3])
    assert f"\nWhat are all the special magic numbers for {a}, {b}, and {c} mentioned in the provided text?" in text
    assert text.startswith("Some special magic numbers are hidden")


def test_share_of_values_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """Values count wherever they stand in what is written; writing ends where all of them are there."""
    monkeypatch.setattr(needle_module, "written", scripted(lambda fork: f"They are <{fork.targets[0]}>, I think."))
    for amounts, score in (({}, 1.0), ({"num_needle_v": 2}, 0.5), ({"num_needle_q": 4}, 0.25)):
        report = needle(**amounts).build(Context())(model(), BYTES)
        assert {measurement.value for measurement in report.measurements} == {score}
        sample = report.samples[0]
        assert sample.score == score
        first = sample.target.split(", ")[0]
        assert sample.output == (f"They are <{first}" if score == 1.0 else f"They are <{first}>, I think.")
    monkeypatch.setattr(needle_module, "written", scripted(lambda fork: " ".join(fork.targets[::-1])))
    report = needle(num_needle_v=3).build(Context())(model(), BYTES)
    assert {measurement.value for measurement in report.measurements} == {1.0}
    monkeypatch.setattr(needle_module, "written", scripted(lambda fork: fork.targets[0][:-1] + "x"))
    assert {m.value for m in needle().build(Context())(model(), BYTES).measurements} == {0.0}


def test_untrained_model_finds_nothing() -> None:
    """A random model scores 0 % in every mode, though the values stand in its prompt."""
    for amounts in ({}, {"num_needle_k": 3}, {"num_needle_v": 2}, {"num_needle_q": 2}):
        report = needle(samples=2, **amounts).build(Context(seed=5))(model(), BYTES)
        assert {measurement.value for measurement in report.measurements} == {0.0}
        assert not report.failures
        assert report.metadata["beyond_window"] == "200"


def test_report_of_a_grid() -> None:
    """One question for each depth and sample, whatever the keys; one text for all depths where keys suffice."""
    for keys, texts in ((1, 1), (2, 3), (5, 1), (7, 1)):
        options = needle(num_needle_k=keys, lengths=(400,))
        assert len(trunks(options)) == 3 * texts
        report = options.build(Context())(model(num_hidden_layers=1), BYTES)
        assert [(m.depth, m.count) for m in report.measurements] == [
            (None, 15), (0.0, 3), (0.25, 3), (0.5, 3), (0.75, 3), (1.0, 3)
        ]  # fmt: skip
        assert report.metadata["mode"] == ("single" if keys == 1 else "multi_key")
        # Nothing is found, and so nothing known of how alike the questions about one text are: each text counts once.
        assert (report.measurements[0].low, report.measurements[0].high) == wilson(0, 15 if keys == 1 else 3)


def test_chat_template_stands_around_the_prompt() -> None:
    """The frame is of the same length, with its special tokens; a tokenizer without a template is refused."""
    talks = tokenizer(60, begins=True)
    talks.chat_template = "<s>{% for turn in messages %}[{{ turn.content }}]{% endfor %}{{ 'A:' }}"
    plain = trunks(needle(), talks)[0]
    framed = trunks(needle(chat=True), talks)[0]
    prompt = framed.prompt(framed.forks[2])
    assert len(prompt) + 30 == 200 == len(plain.prompt(plain.forks[2])) + 30
    assert talks.decode(prompt).startswith("<s>[")
    assert talks.decode(prompt).endswith(":]A:")
    assert prompt.count(talks.bos_token_id) == 1
    with pytest.raises(DataError, match="no chat template"):
        needle(chat=True).check(Context(tokenizer=BYTES))
    talks.chat_template = "{% for turn in messages %}{{ turn.content }}{{ turn.content }}{% endfor %}"
    with pytest.raises(DataError, match="what a user says 2 times"):
        needle(chat=True).check(Context(tokenizer=talks))


def test_haystack_of_the_user() -> None:
    """Documents stand around the needles, and prompts depend on nothing but the seed."""
    source = RepeatsOptions(kind="repeats", documents=20, length=200)
    first = needle(haystack=source).build(Context(seed=1))(model(), BYTES)
    again = needle(haystack=source, batch_size=1).build(Context(seed=1))(model(), BYTES)
    assert first == again
    assert first.metadata["prompts"] != needle().build(Context(seed=1))(model(), BYTES).metadata["prompts"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"needle": "{key}"},
        {"num_needle_k": 2, "question": "which?"},
        {"num_needle_q": 2, "needle": "{value}"},
        {"depths": ()},
        {"lengths": (200, 200)},
        {"num_needle_v": 0},
    ],
)
def test_options_that_measure_nothing_are_refused(wrong: dict[str, Any]) -> None:
    """A needle without its value, keys that are not told apart, nothing to measure: refused with the recipe."""
    with pytest.raises(ValidationError):
        needle(**wrong)


def test_what_does_not_fit_is_said_before_training() -> None:
    """`check` makes prompts of every length."""
    with pytest.raises(DataError, match="a length of 60 tokens has no room"):
        needle(lengths=(200, 60), num_needle_k=5).check(Context(tokenizer=BYTES))
    with pytest.raises(DataError, match="a length of 300 tokens has room for 1 pairs, fewer than there are depths"):
        key_value(lengths=(900, 300)).check(Context(tokenizer=BYTES))


def key_value(**changes: Any) -> KeyValueOptions:
    """Return options for short objects."""
    return KeyValueOptions(**{"kind": "key_value", "lengths": (900,), "samples": 3, **changes})


@pytest.mark.parametrize("of", [BYTES, MERGED])
def test_objects_are_json_and_hold_what_is_asked(of: Any) -> None:
    """The object parses; the key at each depth has the value that is asked for; another pair would not fit."""
    options = key_value()
    for trunk in options.build(Context()).prompts(of, 900, range(3)):
        text = of.decode(trunk.ids)
        preamble, _, rest = text.partition("JSON data:\n")
        pairs = json.loads(rest)
        assert preamble.startswith("Extract the value")
        assert all(uuid.UUID(each).version == 4 for pair in pairs.items() for each in pair)
        assert len(trunk.forks) == 5
        for fork, depth in zip(trunk.forks, options.depths, strict=True):
            asked = json.loads(of.decode(fork.ids).partition("Key: ")[2].partition("\n")[0])
            assert pairs[asked] == fork.target == of.decode(fork.answer)
            assert list(pairs).index(asked) == round(depth * (len(pairs) - 1))
            assert of.decode(fork.ids).endswith('Corresponding value: "')
        longest = max(len(trunk.prompt(fork)) + len(fork.answer) for fork in trunk.forks)
        assert 900 - 100 < longest <= 900


def test_untrained_model_knows_no_value() -> None:
    """A random model scores 0 %; the report has a cell for each depth, and says what was asked."""
    report = key_value(lengths=(700, 900)).build(Context())(model(), BYTES)
    assert {measurement.value for measurement in report.measurements} == {0.0}
    assert [(m.length, m.depth, m.count) for m in report.measurements][:2] == [(700, None, 15), (700, 0.0, 3)]
    assert report.samples[0].input.startswith('Key: "')
    assert len(report.samples[0].target) == 36
    assert len({sample.id for sample in report.samples}) == 30
    assert report.metadata["beyond_window"] == "700, 900"


def test_an_object_is_read_once_for_all_questions() -> None:
    """The tokens read are those of the objects and of the questions, not of an object for each question."""
    options = key_value(batch_size=1)
    inside = model()
    seen: list[int] = []
    inside.get_input_embeddings().register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].numel()))
    options.build(Context())(inside, BYTES)
    prompts = options.build(Context()).prompts(BYTES, 900, range(3))
    shared = len('\n\nKey: "')  # what all questions begin with is read once too
    assert sum(seen) == sum(
        len(trunk.ids) + shared + sum(len(fork.ids) - shared + len(fork.answer) - 1 for fork in trunk.forks)
        for trunk in prompts
    )


def test_key_value_needs_a_key_in_its_question() -> None:
    """Without the key nobody could answer."""
    with pytest.raises(ValidationError, match=r"must hold `\{key\}`"):
        key_value(question="Value?")


def test_documents_may_end_early() -> None:
    """A haystack shorter than a prompt costs that length, with the count of tokens."""
    options = needle(lengths=(100, 400))
    measure = options.build(Context())
    short = type(measure)(**{**vars(measure), "documents": [Document(FOX * 2, id="a")]})
    report = short(model(), BYTES)
    assert {measurement.length for measurement in report.measurements} == {100}
    assert "the haystack has 134 tokens" in report.failures["400 tokens, samples 1 to 3"]
